"""The compiled loops against plain ones: a page laid out place by place with counters, and readings one number at a time."""

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.layout import UNKNOWN, in_order, lay_out
from serving.native import _folders, native
from serving.readings import GAP, LINEAR, LOG, floored, scaled


def plain_page(
    worth: dict[int, float], kind: list[int], creator: list[int], category: list[int], *, diversity: float, limit: int,
    creator_cap: int, category_cap: int,
) -> list[int]:  # fmt: skip
    """Rows by merit: each place takes what is worth most less what it shares, of what no cap holds back."""
    page: list[int] = []
    kinds, creators, categories = Counter[int](), Counter[int](), Counter[int]()
    while len(page) < limit:
        free = [
            row
            for row in worth
            if row not in page
            and (creator[row] == UNKNOWN or creators[creator[row]] < creator_cap)
            and (category[row] == UNKNOWN or categories[category[row]] < category_cap)
        ]
        if not free:
            break
        shown = max(len(page), 1)
        share = {row: kinds[kind[row]] + (categories[category[row]] if category[row] != UNKNOWN else 0) for row in free}
        best = max(free, key=lambda row: (1 - diversity) * worth[row] - share[row] * (diversity / shown))
        page.append(best)
        kinds[kind[best]] += 1
        creators[creator[best]] += 1
        categories[category[best]] += 1
    return page + [row for row in worth if row not in page][: min(limit, len(worth)) - len(page)]


@pytest.mark.parametrize("seed", range(60))
def test_a_page_is_laid_out_as_place_by_place_with_counters(seed: int) -> None:
    pick = np.random.default_rng(seed)
    n, limit = int(pick.integers(0, 80)), int(pick.integers(1, 25))
    wish = pick.integers(0, 20 if seed % 2 else 10_000, n) / 20
    kind = pick.integers(0, 3, n).astype(np.int8)
    creator, category = (pick.integers(-1, 12, n).astype(np.int32) for _ in range(2))
    order, diversity = pick.permutation(n), float(pick.choice([0.0, 0.2, 1.0]))
    best_first = np.argsort(-wish)
    assert in_order(wish, order, best_first, n)
    assert best_first.tolist() == sorted(range(n), key=lambda row: (-wish[row], order[row]))
    nothing = np.zeros((0, 2), np.int64)
    page, pool = lay_out(
        wish, best_first, kind, creator, category, diversity, nothing, nothing, nothing, 0, 2, 0, 4, 0, limit, 2, 30
    )
    wanted = plain_page(
        {row: wish[row] for row in best_first.tolist()}, kind.tolist(), creator.tolist(), category.tolist(),
        diversity=diversity, limit=limit, creator_cap=2, category_cap=4,
    )  # fmt: skip
    assert page.tolist() == wanted
    makers, subjects = Counter(creator[page].tolist()), Counter(category[page].tolist())
    drawable, met = [], set[int]()
    for row in best_first.tolist() if len(wanted) == limit < n else ():
        maker, subject = int(creator[row]), int(category[row])
        full = maker != UNKNOWN and makers[maker] >= 2
        crowded = subject != UNKNOWN and subjects[subject] > 0 and subjects[subject] + 2 > 4
        if row not in wanted and not full and not crowded and maker not in met:
            met.add(maker)
            drawable.append(row)
    assert pool.tolist() == drawable[:30]


def test_more_equals_than_a_few_are_left_to_another_way() -> None:
    rows = np.arange(5)
    assert not in_order(np.ones(5), rows[::-1].copy(), rows, 3)
    assert rows.tolist() == [0, 1, 2, 3, 4]


def test_numbers_are_read_one_by_one_as_an_encoder_reads_them() -> None:
    odd = [math.nan, -3.0, 0.0, 0.25, 7.0, 1e9, math.inf, -math.inf]
    pick = np.random.default_rng(5)
    raw = pick.choice(odd, (300, 6))
    columns, hows = np.array([4, 1, 1, 5, 1, 0]), np.array([LINEAR, LOG, GAP, GAP, LINEAR, LOG])
    mean, scale, asked = pick.random(6), pick.random(6) + 0.5, np.array([5, 0, 0, 2, 1, 3, 4])
    logs = floored(raw, np.array([1, 5, 0]))
    np.log1p(logs, out=logs)
    found = scaled(raw, logs, columns, hows, np.array([0, 0, 0, 1, 0, 2]), mean, scale, asked, 8.0)

    def read(number: float, how: int) -> float:
        if how == GAP and not number >= 0:
            return -1.0
        return number if how == LINEAR or math.isnan(number) or number == math.inf else math.log1p(max(number, 0.0))

    for row in range(300):
        for place, one in enumerate(asked.tolist()):
            number = (read(raw[row, columns[one]], hows[one]) - mean[one]) / scale[one]
            wanted = 0.0 if math.isnan(number) else min(max(number, -8.0), 8.0)
            assert found[row, place] == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def test_compiled_code_takes_the_arrays_it_is_declared_for_and_no_others() -> None:
    with pytest.raises(TypeError):
        in_order(np.ones(3, np.float32), np.arange(3), np.arange(3), 3)


def twice(number: float) -> float:
    return 2.0 * number


def test_where_no_folder_can_be_written_it_is_compiled_for_this_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert native("float64(float64)")(twice)(2.5) == 5.0


def test_what_is_kept_is_used_again_and_half_a_file_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    for hits in (0, 1):
        made: Any = native("float64(float64)")(twice)
        assert made(2.5) == 5.0
        assert sum(made.stats.cache_hits.values()) == hits
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(b"")
    made = native("float64(float64)")(twice)
    assert made(2.5) == 5.0
    assert sum(made.stats.cache_hits.values()) == 0
    assert all(index.stat().st_size for index in tmp_path.rglob("*.nbi"))


def test_other_source_is_kept_elsewhere(tmp_path: Path) -> None:
    found = []
    for number, body in enumerate(("return 2.0 * x", "return 3.0 * x")):
        path = tmp_path / "module.py"
        path.write_text(f"def f(x):\n    {body}\n")
        space: dict[str, Any] = {}
        exec(compile(path.read_text(), str(path), "exec"), space)
        found.append(next(iter(_folders(space["f"]))))
        assert len(set(found)) == number + 1


def test_a_scale_of_nothing_is_as_in_numpy() -> None:
    raw, one = np.array([[3.0], [0.0], [-2.0]]), np.zeros(1, np.int64)
    found = scaled(raw, np.zeros((3, 0)), one, one, one, np.zeros(1), np.zeros(1), one, 8.0)
    assert found.ravel().tolist() == [8.0, 0.0, -8.0]


def test_loops_are_right_without_a_compiler(tmp_path: Path) -> None:
    script = (
        "import numpy as np\nfrom serving.loops import admitted, present\n"
        "few, many = np.array([5, 9]), np.array([9, 4], np.int32)\n"
        "assert present(few, many).tolist() == [False, True]\n"
    )
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", script], check=True, env=env, timeout=120)
