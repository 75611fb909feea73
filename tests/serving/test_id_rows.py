"""Rows by id: the same as a dict's, whatever came and went, and while a writer is at work."""

import random
import threading

import numpy as np
import pytest

from serving.id_rows import FEW, IdRows, found, put


def test_ids_have_the_rows_that_they_were_put_at_last_and_others_have_none() -> None:
    rows = IdRows()
    rows.put("a", 3)
    rows.put("b", 4)
    rows.put("a", 5)
    assert rows.rows(["b", "nobody", "a", "b"]).tolist() == [4, 0, 5, 4]
    assert rows.rows([]).tolist() == []
    rows.drop("b", 4)
    rows.drop("nobody", 1)
    assert rows.rows(["a", "b"]).tolist() == [5, 0]
    rows.put("b", 6)
    rows.drop("b", 4)  # it has another row by now
    assert rows.rows(["b"]).tolist() == [6]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_a_dicts_through_any_comings_and_goings(seed: int) -> None:
    pick, rows, held = random.Random(seed), IdRows(), dict[str, int]()
    names = [f"item-{n}" for n in range(4 * FEW)]
    for turn in range(20 * FEW):
        one = pick.choice(names)
        if pick.random() < (0.3 if turn < 10 * FEW else 0.6):
            rows.drop(one, held.pop(one, 0))
        else:
            row = held[one] = pick.randrange(1, 10**9)
            rows.put(one, row)
        if turn % FEW == 0:
            assert rows.rows(names).tolist() == [held.get(name, 0) for name in names]


def test_what_is_no_longer_used_is_taken_back_and_does_not_fill_the_array() -> None:
    rows = IdRows()
    for number in range(50 * FEW):
        rows.put(f"item-{number}", number + 1)
        if number >= 100:
            rows.drop(f"item-{number - 100}", number - 99)
    assert len(rows._slots) <= 2 * FEW
    last = [f"item-{number}" for number in range(50 * FEW - 100, 50 * FEW)]
    assert rows.rows(last).tolist() == list(range(50 * FEW - 99, 50 * FEW + 1))


def test_hashes_that_begin_at_one_slot_are_told_apart() -> None:
    slots = np.zeros((8, 2), np.int64)
    keys = np.array([7, 15, 23, -1], np.int64)  # all end in the last slot: the search goes on from the first
    for row, key in enumerate(keys.tolist(), start=1):
        assert put(slots, key, row)
        assert not put(slots, key, row)
    assert found(slots, keys).tolist() == [1, 2, 3, 4]
    assert found(slots, np.array([31, 0], np.int64)).tolist() == [0, 0]


def test_readers_find_what_stands_there_while_the_array_grows() -> None:
    rows, held = IdRows(), [f"held-{n}" for n in range(300)]
    for number, one in enumerate(held, start=1):
        rows.put(one, number)
    wrong, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            found = rows.rows(held).tolist()
            if found != list(range(1, 301)):
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(60_000):
        rows.put(f"new-{number}", number + 1)
        if number % 3 == 0:
            rows.drop(f"new-{number}", number + 1)
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
