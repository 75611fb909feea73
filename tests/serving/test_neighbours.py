"""Lists written by hand and read back: merged over seeds, without the seeds, and empty where there is nothing."""

from pathlib import Path

import numpy as np
import pytest

from registry.neighbours import HOSTS, MEDIA, NeighbourLists, ids_checksum
from serving.errors import ReleaseRefused
from serving.neighbours import Neighbours

IDS = ("m0", "m1", "m2", "m3")


def lists(ids: tuple[str, ...] = (), named: tuple[str, ...] = IDS) -> NeighbourLists:
    """Of row 0: rows 1 and 2; of row 2: rows 3 and 1; rows 1 and 3 have none."""
    return NeighbourLists(
        np.array([0, -1, 1, -1], np.int32), np.array([[1, 2, -1], [3, 1, -1]], np.int32),
        np.array([[1.0, 0.5, 0.0], [0.75, 0.25, 0.0]], np.float16), np.ones((2, 3), np.uint8), ids, ids_checksum(named),
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lists().save(tmp_path / MEDIA)
    lists(("h0", "h1", "h2", "h3"), ("h0", "h1", "h2", "h3")).save(tmp_path / HOSTS)
    return tmp_path


def said(answer: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, float]]:
    return list(zip(answer[0].tolist(), answer[1].tolist(), strict=True))


def test_the_neighbours_of_one_item_come_best_first(folder: Path) -> None:
    assert said(Neighbours.open(folder).of(0)) == [(1, 1.0), (2, 0.5)]


def test_seeds_add_up_by_weight_and_are_not_among_the_answers(folder: Path) -> None:
    # row 1: 1.0 x 1 + 0.25 x 2; row 3: 0.75 x 2; row 2 is a seed
    assert said(Neighbours.open(folder).of_many([0, 2], [1.0, 2.0])) == [(1, 1.5), (3, 1.5)]
    assert said(Neighbours.open(folder).of_many([0, 2], [1.0, 4.0])) == [(3, 3.0), (1, 2.0)]


def test_hosts_are_asked_by_id(folder: Path) -> None:
    names, scores = Neighbours.open(folder).hosts_like(["h2", "never seen"])
    assert (names, scores.tolist()) == (("h3", "h1"), [0.75, 0.25])


@pytest.mark.parametrize("rows", [[], [1], [-1], [4], [1, 99]])
def test_seeds_without_a_list_give_nothing(folder: Path, rows: list[int]) -> None:
    assert said(Neighbours.open(folder).of_many(rows)) == []


def test_a_release_without_lists_is_an_empty_source(tmp_path: Path) -> None:
    neighbours = Neighbours.open(tmp_path / "neighbours", item_ids=IDS)
    assert said(neighbours.of_many([0, 1])) == []
    assert neighbours.hosts_like(["h0"])[0] == ()


def test_lists_are_mapped_and_not_read(folder: Path) -> None:
    assert isinstance(Neighbours.open(folder).media.rows, np.memmap)


@pytest.mark.parametrize("broken", ["cut", "shape", "gone", "ids"])
def test_files_that_do_not_agree_are_refused(folder: Path, broken: str) -> None:
    rows = folder / MEDIA / "rows.npy"
    if broken == "cut":
        rows.write_bytes(rows.read_bytes()[:-4])
    elif broken == "shape":
        np.save(rows, np.zeros((2, 9), np.int32))
    elif broken == "gone":
        rows.unlink()
    else:
        np.save(folder / HOSTS / "ids.npy", np.array(["h0", "h1", "h3", "h2"]))
    with pytest.raises(ReleaseRefused, match="neighbours in"):
        Neighbours.open(folder)


def test_lists_of_another_index_are_refused(folder: Path) -> None:
    Neighbours.open(folder, item_ids=IDS)
    with pytest.raises(ReleaseRefused, match="not of this one"):
        Neighbours.open(folder, item_ids=("m0", "m2", "m1", "m3"))
