"""Candidates' numbers and words as the ranker reads them: the loops of serving/codes.py, compiled.

A table gives vocabulary indices by row or word number; a number beyond it has index 0, the word nobody knows.
"""

import numpy as np
import numpy.typing as npt

from serving.native import native

Raw = npt.NDArray[np.float64]
Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int32]
Indices = npt.NDArray[np.integer]
# How a number is read: as it is, log1p of what is above 0, the same with -1 for what is below 0 or missing.
LINEAR, LOG, GAP = 0, 1, 2


@native("float64[:, ::1](float64[:, ::1], int64[::1])")
def floored(raw: Raw, columns: Rows) -> Raw:
    """Those columns of `raw` [n, width] with 0 for what is below: for numpy's log1p, which is vectorized as libm's is not."""
    out = np.empty((len(raw), len(columns)))
    for at in range(len(raw)):
        for place in range(len(columns)):
            number = raw[at, columns[place]]
            out[at, place] = 0.0 if number < 0.0 else number
    return out


@native(
    "float32[:, ::1](float64[:, ::1], float64[:, ::1], int64[::1], int64[::1], int64[::1], float64[::1], float64[::1],"
    " int64[::1], float64)"
)
def scaled(
    raw: Raw, logs: Raw, columns: Rows, hows: Rows, log_at: Rows, mean: Raw, scale: Raw, asked: Rows, bound: float
) -> npt.NDArray[np.float32]:
    """[n, asked] float32: readings (number - mean) / scale within the bound, 0 for none.

    Reading r is of `raw` column `columns[r]`, or of `logs` column `log_at[r]`; `asked` names the readings to give.
    """
    out = np.empty((len(raw), len(asked)), np.float32)
    width, logged, read = raw.shape[1], logs.shape[1], len(columns)
    every = np.empty(width + 2 * logged)  # a row's numbers, their logarithms, and the same as gaps
    source, numbers, kept = np.empty(read, np.int64), np.empty(read), np.empty(read, np.float32)
    of_log = np.empty(logged, np.int64)
    for one in range(read):
        if hows[one] == LINEAR:
            source[one] = columns[one]
        else:
            source[one] = width + log_at[one] + (logged if hows[one] == GAP else 0)
            of_log[log_at[one]] = columns[one]
    for at in range(len(raw)):
        for place in range(width):
            every[place] = raw[at, place]
        for place in range(logged):
            every[width + place] = logs[at, place]
            every[width + logged + place] = logs[at, place] if raw[at, of_log[place]] >= 0.0 else -1.0
        for one in range(read):
            numbers[one] = every[source[one]]
        for one in range(read):
            number = (numbers[one] - mean[one]) / scale[one]
            number = 0.0 if number != number else number
            kept[one] = np.float32(min(max(number, -bound), bound))
        for place in range(len(asked)):
            out[at, place] = kept[asked[place]]
    return out


_INTO = ("int32", "int64")


@native(*(f"void({number}[::1], int64[::1], {into}[:, ::1], int64)" for number in _INTO for into in _INTO))
def look_up(numbers: Indices, table: Rows, into: Indices, column: int) -> None:
    """Write the indices of row or word numbers into a column."""
    for at in range(len(numbers)):
        number = numbers[at]
        into[at, column] = table[number] if 0 <= number < len(table) else 0


@native(*(f"void(int64[::1], int32[:], int64[::1], {into}[:, ::1], int64)" for into in _INTO))
def look_up_word(rows: Rows, word_of: Codes, table: Rows, into: Indices, column: int) -> None:
    """Write the indices of each row's word into a column."""
    for at in range(len(rows)):
        word = word_of[rows[at]] if 0 <= rows[at] < len(word_of) else 0
        into[at, column] = table[word] if 0 <= word < len(table) else 0


@native(
    *(
        f"void(int64[::1], int32[::1], int8[::1], int64, int64[::1], int64[::1], {into}[:, ::1], int64)"
        for into in _INTO
    )
)
def look_up_key(
    rows: Rows,
    makers: Codes,
    kinds: npt.NDArray[np.int8],
    live: int,
    items: Rows,
    hosts: Rows,
    into: Indices,
    column: int,
) -> None:
    """Write the indices of item keys into a column: a room's is that of its host."""
    for at in range(len(rows)):
        if kinds[at] == live:
            into[at, column] = hosts[makers[at]] if makers[at] < len(hosts) else 0
        else:
            into[at, column] = items[rows[at]] if rows[at] < len(items) else 0


@native(*(f"int64[::1](int64[::1], int32[:, :], int16[:], int64[::1], {into}[:, ::1], int64, int64)" for into in _INTO))
def look_up_tags(
    rows: Rows,
    tags: Codes,
    own_tags: npt.NDArray[np.int16],
    table: Rows,
    into: Indices,
    column: int,
    length: int,
) -> Rows:
    """Write the indices of each row's first tags into `length` columns, 0 where it has fewer.

    Returns the places whose tags are more than `tags` holds, where they would be asked for: those remain to be written.
    """
    many, count = np.empty(len(rows), np.int64), 0
    size, held = min(len(tags), len(own_tags)), tags.shape[1]
    for at in range(len(rows)):
        row = rows[at] if 0 <= rows[at] < size else 0
        for place in range(length):
            word = tags[row, place] if place < held and place < own_tags[row] else 0
            into[at, column + place] = table[word] if 0 < word < len(table) else 0
        if length > held and own_tags[row] > held:
            many[count] = at
            count += 1
    return many[:count].copy()
