"""What changes between two releases: added, gone, and seen by whom."""

import threading
import time
from typing import Any

import numpy as np
import pytest

from serving.delta import ALL, FIRST, Delta
from serving.errors import BadQuery
from serving.exact import Exact
from serving.index import Index, Matrix
from tests.contracts.test_item_index import CIRCLE, at, inverted

HALVES = {"VIDEO": np.arange(36) < 18, "AUDIO": np.arange(36) >= 18}


@pytest.fixture(params=["exact", "inverted lists"])
def index(request: pytest.FixtureRequest) -> Index:
    return Exact(CIRCLE) if request.param == "exact" else inverted(CIRCLE)


def rows(found: Delta, degrees: float, k: int, only: str = "") -> list[int]:
    return [int(row) for row in found.view.search(at(degrees), k, only=only).rows]


def test_an_addition_is_found_by_the_next_search_under_a_row_of_its_own(index: Index) -> None:
    delta = Delta(index)
    assert delta.add(np.stack([at(4), at(94)])).tolist() == [36, 37]
    assert rows(delta, 3, 3) == [36, 0, 1]
    assert rows(delta, 93, 2) == [37, 9]


def test_a_deletion_is_gone_with_the_next_search_and_others_come_in_its_place(index: Index) -> None:
    delta = Delta(index)
    delta.remove([0, 35])
    assert rows(delta, 3, 3) == [1, 2, 34]
    assert len(rows(delta, 3, 100)) == 34


def test_an_addition_can_be_deleted(index: Index) -> None:
    delta = Delta(index)
    delta.add(np.stack([at(3), at(4)]))
    delta.remove([36])
    assert rows(delta, 3, 2) == [37, 0]


def test_an_item_that_changed_is_one_row_gone_and_one_added(index: Index) -> None:
    delta = Delta(index)
    delta.remove([0])
    (row,) = delta.add(at(180)[np.newaxis])
    assert rows(delta, 0, 100).count(0) == 0
    assert row in rows(delta, 180, 2)


def test_deleting_twice_is_deleting_once(index: Index) -> None:
    delta = Delta(index)
    delta.remove([0])
    delta.remove([0, 0])
    assert len(rows(delta, 3, 100)) == 35


def test_one_label_is_searched_among_old_and_new_rows(index: Index) -> None:
    delta = Delta(index, labels=HALVES)
    delta.add(np.stack([at(1), at(2)]), ["AUDIO", "VIDEO"])
    assert rows(delta, 0, 2, "AUDIO") == [36, 35]
    assert rows(delta, 0, 2, "VIDEO") == [0, 37]
    assert rows(delta, 0, 3) == [0, 36, 37]


def test_a_deletion_is_gone_under_its_label_too(index: Index) -> None:
    delta = Delta(index, labels=HALVES)
    delta.remove([35])
    assert rows(delta, 0, 1, "AUDIO") == [34]


def test_a_view_stays_what_it_was(index: Index) -> None:
    delta = Delta(index, labels=HALVES)
    delta.add(at(1)[np.newaxis], ["VIDEO"])
    before = delta.view
    delta.add(np.stack([at(0)] * FIRST), ["VIDEO"] * FIRST)  # moves to a longer matrix
    delta.remove([0, 36])
    assert before.rows == 37
    assert before.search(at(0.1), 3).rows.tolist() == [0, 36, 1]


def test_growth_keeps_what_was_added_before(index: Index) -> None:
    delta = Delta(index)
    for start in range(0, 3 * FIRST, 512):
        delta.add(np.stack([at(0, length=2 + start + n) for n in range(512)]))
    assert rows(delta, 0, 2) == [36 + 3 * FIRST - 1, 36 + 3 * FIRST - 2]
    np.testing.assert_array_equal(delta.view.vector(36), at(0, length=2))
    np.testing.assert_allclose(delta.view.vector(1), at(10), atol=1e-3)


def test_over_its_bound_it_says_so(index: Index) -> None:
    delta = Delta(index, bound=2)
    delta.add(np.stack([at(1), at(2)]))
    assert not delta.view.is_over_bound
    delta.add(at(3)[np.newaxis])
    assert delta.view.is_over_bound


def test_an_unknown_label_is_refused_with_those_there_are(index: Index) -> None:
    delta = Delta(index, labels=HALVES)
    with pytest.raises(BadQuery, match=r"'LIVE'; allowed are '', 'VIDEO', 'AUDIO'"):
        delta.view.search(at(0), 1, only="LIVE")
    with pytest.raises(BadQuery, match="LIVE"):
        delta.add(at(0)[np.newaxis], ["LIVE"])


@pytest.mark.parametrize("gone", [[36], [-1]])
def test_a_row_that_is_not_there_cannot_be_removed(index: Index, gone: list[int]) -> None:
    with pytest.raises(BadQuery, match=r"rows 0 … 35"):
        Delta(index).remove(gone)


@pytest.mark.parametrize("vectors", [np.zeros((1, 3), np.float32), np.full((1, 8), np.nan, np.float32)])
def test_an_embedding_that_does_not_fit_is_not_added(index: Index, vectors: Matrix) -> None:
    delta = Delta(index)
    with pytest.raises(BadQuery, match="finite f32"):
        delta.add(vectors)
    assert delta.view.rows == 36


def test_a_view_is_whole_the_moment_it_is_published(index: Index) -> None:
    found: list[list[int]] = []

    class Watched(Delta):
        def _publish(self, *what: Any) -> None:
            super()._publish(*what)
            found.append(self.view.search(at(1), 2).rows.tolist())

    delta = Watched(index)
    delta.add(at(1, length=2)[np.newaxis])
    delta.add(np.stack([at(1, length=3)] + [at(180)] * FIRST))
    delta.remove([37])
    assert found == [[36, 0], [37, 36], [36, 0]]


def test_readers_beside_a_writer_see_whole_states(index: Index) -> None:
    """The writer adds the n-th row, n + 2 long, then removes the one before: no reader sees none, or an old one only."""
    delta, stop, wrong, seen = Delta(index), threading.Event(), list[str](), set[int]()
    delta.add(at(0, length=2)[np.newaxis])

    def read() -> None:
        newest = 36
        while not stop.is_set():
            view = delta.view
            found = view.search(at(0), 3).rows
            if view.rows - 1 not in found or found[0] < newest:
                wrong.append(f"{view.rows} rows, found {found.tolist()} after {newest}")
            newest = int(found[0])
            seen.add(newest)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    n = 0
    while len(seen) < 200 and n < 20_000:
        n += 1
        (row,) = delta.add(at(0, length=2 + n)[np.newaxis])
        delta.remove([int(row) - 1])
        time.sleep(0)  # the readers' turn
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(seen) >= 200  # the readers read while it wrote
    assert rows(delta, 1, 3) == [36 + n, 0, 1]


def test_searches_beside_the_index_are_a_plain_search_by_label_before_and_after_some_are_gone() -> None:
    pick = np.random.default_rng(5)
    delta = Delta(
        Exact(pick.normal(size=(3, 4)).astype(np.float32)), labels={"a": np.ones(3, bool), "b": np.zeros(3, bool)}
    )
    vectors, names = pick.normal(size=(40, 4)).astype(np.float32), ["ab"[n % 2] for n in range(40)]
    delta.add(vectors, names)
    gone: list[int] = []
    for also in ([], [0, 5, 39], [1, 3, 7]):
        if also:
            delta.remove([3 + one for one in also])
            gone += also
        query = pick.normal(size=4).astype(np.float32)
        for only in (ALL, "a", "b", "a"):
            fine = [n for n in range(40) if n not in gone and only in (ALL, names[n])]
            wanted = sorted(fine, key=lambda n: -float(vectors[n] @ query))[:10]
            assert (delta.view.search_added(query, 10, only=only).rows - 3).tolist() == wanted
