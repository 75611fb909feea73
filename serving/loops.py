"""What recall and ranking do with each candidate, compiled: rules, merging, numbers (filters.py, candidates.py, sides.py).

Rows are numbers of the item table. An array may be shorter than a row number that was just given away: such a row holds
nothing. Sets of a few hundred numbers are places of keys under a hash (open addressing, at most half full).
All of it stands in one module: what is kept of compiled code is made anew when a function's own module changes, not when
another one does that it calls.
"""

import numpy as np
import numpy.typing as npt

from features.definitions import HOUR
from serving.native import helper, native

Matrix = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
Codes = npt.NDArray[np.int32]
Kinds = npt.NDArray[np.int8]
NOWHERE = -1
ANY = -1  # in place of a kind
_SPREAD = 2654435769  # Knuth's multiplicative hashing: 2**32 over the golden ratio


@helper
def slots_for(most: int) -> Rows:
    """Slots for so many places."""
    size = 64
    while size < 2 * most:
        size *= 2
    return np.full(size, NOWHERE, np.int64)


@helper
def added(slots: Rows, keys: Rows, place: int) -> bool:
    """Put the key of a place into the set; False where it was there already."""
    last, key = len(slots) - 1, np.int64(keys[place])
    slot = (key * _SPREAD >> 7) & last
    while slots[slot] != NOWHERE:
        if keys[slots[slot]] == key:
            return False
        slot = (slot + 1) & last
    slots[slot] = place
    return True


@helper
def slots_of(keys: Rows) -> Rows:
    """The set of all keys, each at its first place."""
    slots = slots_for(len(keys))
    for place in range(len(keys)):
        added(slots, keys, place)
    return slots


@helper
def place_of(slots: Rows, keys: Rows, key: int) -> int:
    """The first place of a key; NOWHERE where it is not in the set."""
    last = len(slots) - 1
    slot = (np.int64(key) * _SPREAD >> 7) & last
    while slots[slot] != NOWHERE:
        place: int = slots[slot]
        if keys[place] == key:
            return place
        slot = (slot + 1) & last
    return NOWHERE


@native(
    "boolean[::1](int64[::1], int8[:], boolean[:], float64[:], int32[:], int64[::1], int64[::1], int64, int64, float64)"
)
def admitted(
    rows: Rows,
    kind: Kinds,
    listed: Flags,
    lease_until: Floats,
    maker: Codes,
    seen: Rows,
    blocked: Rows,
    live: int,
    wanted: int,
    now: float,
) -> Flags:
    """Whether each row holds something of the wanted kind (or ANY) that is neither seen nor by a blocked maker.

    A kind below 0 is that of a row that holds nothing. A room (a row of kind `live`) may be shown while it is listed and its
    lease runs on after `now`.
    """
    out = np.zeros(len(rows), np.bool_)
    size = min(len(kind), len(listed), len(lease_until), len(maker))
    met, barred = slots_of(seen), slots_of(blocked)
    for at in range(len(rows)):
        row = rows[at]
        if row < 0 or row >= size:
            continue
        its = kind[row]
        if its < 0 or (wanted != ANY and its != wanted):
            continue
        if its == live and not (listed[row] and lease_until[row] > now):
            continue
        if place_of(met, seen, row) != NOWHERE:
            continue
        out[at] = len(blocked) == 0 or place_of(barred, blocked, maker[row]) == NOWHERE
    return out


@native("int64[::1](int64[::1], boolean[::1], int64[::1], int64[::1], int64)")
def merged(rows: Rows, fine: Flags, ends: Rows, quotas: Rows, total: int) -> Rows:
    """Places of the rows that are kept, ascending, at most `total`.

    Source s named the rows from where the one before it ended up to place `ends[s]`. It keeps the first `quotas[s]` that are
    fine and that none before it kept: what is beyond its quota is left to those after it.
    """
    out, count, begin = np.empty(min(len(rows), total), np.int64), 0, 0
    known = slots_for(len(out))
    for source in range(len(ends)):
        kept = 0
        for place in range(begin, ends[source]):
            if kept == quotas[source] or count == len(out):
                break
            if fine[place] and added(known, rows, place):
                out[count] = place
                kept, count = kept + 1, count + 1
        begin = ends[source]
    return out[:count].copy()


@native("int64[::1](int64[::1], float64[:, :], float64[:, ::1], int32[:], float64[:], float64, float64[:, ::1])")
def gathered(
    rows: Rows, items: Matrix, creators: Matrix, maker: Codes, due_at: Floats, now: float, out: Matrix
) -> Rows:
    """Write each row's own numbers and its creator's into the first columns of `out`.

    Returns the places whose own numbers are no longer true as of `now`: they came due before.
    """
    due, count = np.empty(len(rows), np.int64), 0
    size = min(len(items), len(maker), len(due_at))
    own, theirs = items.shape[1], creators.shape[1]
    for at in range(len(rows)):
        row = rows[at] if 0 <= rows[at] < size else 0
        host = maker[row] if maker[row] < len(creators) else 0
        for column in range(own):
            out[at, column] = items[row, column]
        for column in range(theirs):
            out[at, own + column] = creators[host, column]
        if due_at[row] <= now:
            due[count] = at
            count += 1
    return due[:count].copy()


@native("boolean[::1](int64[::1], int32[::1])")
def present(few: Rows, many: Codes) -> Flags:
    """Whether each of `few` different numbers is among `many`."""
    out, slots = np.zeros(len(few), np.bool_), slots_of(few)
    for number in many:
        place = place_of(slots, few, number)
        if place != NOWHERE:
            out[place] = True
    return out


@native(
    "int64[::1](int64[::1], int32[::1], int8[::1], int64, int32[:, :], int16[:], int32[:], int64, int64[::1],"
    " float64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64,"
    " float64, float64, float64[:, ::1], int64)"
)
def met(
    rows: Rows,
    makers: Codes,
    kinds: Kinds,
    live: int,
    tags: Codes,  # [rows, TAGS] word numbers, 0 for none
    own_tags: npt.NDArray[np.int16],
    language: Codes,
    spoken: int,  # the word number of the viewer's language; -1: of no item
    words: Rows,  # what she has met, by word number, and how much she liked it
    liking: Floats,
    follows: Rows,  # creators
    recent: Rows,  # items
    recent_hosts: Rows,  # creators
    paired: Rows,  # creators she has something with: starts, and when the last was (NaN: never)
    starts: Floats,
    last: Floats,
    published: Floats,
    now: float,
    unmet: float,  # the affinity where no tag was met
    most_gap_s: float,
    out: Matrix,
    first: int,
) -> Rows:
    """Write from column `first` of `out` on what snapshots call cross.* (in the order of sides.CROSS), and the age in hours.

    Returns the places that have more tags than `tags` holds: of those the first two columns remain to be written.
    """
    many, count = np.empty(len(rows), np.int64), 0
    size = min(len(tags), len(own_tags), len(language))
    by_word, followed = slots_of(words), slots_of(follows)
    lately, hosts, pairs = slots_of(recent), slots_of(recent_hosts), slots_of(paired)
    for at in range(len(rows)):
        row = rows[at] if 0 <= rows[at] < size else 0
        known, total = 0, 0.0
        for column in range(tags.shape[1]):
            word = tags[row, column]
            place = place_of(by_word, words, word) if word > 0 else NOWHERE
            if place != NOWHERE:
                known += 1
                total += liking[place]
        out[at, first] = total / known if known else unmet
        out[at, first + 1] = known / max(own_tags[row], 1)
        if own_tags[row] > tags.shape[1]:
            many[count] = at
            count += 1
        maker = makers[at]
        out[at, first + 2] = language[row] == spoken
        out[at, first + 3] = place_of(followed, follows, maker) != NOWHERE
        pair = place_of(pairs, paired, maker)
        out[at, first + 4] = starts[pair] if pair != NOWHERE else 0.0
        since = last[pair] if pair != NOWHERE else np.nan
        out[at, first + 5] = -1.0 if np.isnan(since) else min(max(now - since, 0.0), most_gap_s) / HOUR
        if kinds[at] == live:
            out[at, first + 6] = place_of(hosts, recent_hosts, maker) != NOWHERE
        else:
            out[at, first + 6] = place_of(lately, recent, row) != NOWHERE
        age = published[at]
        out[at, first + 7] = -1.0 if np.isnan(age) else max(now - age, 0.0) / HOUR
    return many[:count].copy()


@native("int32[:, ::1](int64[::1], int8[:], int32[:], int16[:], int32[:, :])")
def worded(rows: Rows, kind: Kinds, category: Codes, own_tags: npt.NDArray[np.int16], tags: Codes) -> Codes:
    """[n, 3 + tags] kind, category, how many tags of its own, and tags of each row; a row beyond the arrays is row 0."""
    out = np.empty((len(rows), 3 + tags.shape[1]), np.int32)
    size = min(len(kind), len(category), len(own_tags), len(tags))
    for at in range(len(rows)):
        row = rows[at] if 0 <= rows[at] < size else 0
        out[at, 0], out[at, 1], out[at, 2] = kind[row], category[row], own_tags[row]
        for place in range(tags.shape[1]):
            out[at, 3 + place] = tags[row, place]
    return out


@native("int64[::1](int64[::1], int64[::1], int64[::1])")
def rooms_of_hosts(hosts: Rows, ordered: Rows, rooms: Rows) -> Rows:
    """The rooms of those hosts in rising order of hosts, each once: `ordered[i]` is the host of `rooms[i]`, rising."""
    out, count, last = np.empty(len(rooms), np.int64), 0, NOWHERE
    for host in np.sort(hosts):
        if host == last:
            continue
        last = host
        begin, end = 0, len(ordered)
        while begin < end:
            middle = (begin + end) // 2
            if ordered[middle] < host:
                begin = middle + 1
            else:
                end = middle
        while begin < len(ordered) and ordered[begin] == host:
            out[count] = rooms[begin]
            count += 1
            begin += 1
    return out[:count].copy()
