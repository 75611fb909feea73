"""Inverted lists over made embeddings: what is probed, kept, moved on, and written."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from serving.ann import LISTS, PLACES, IvfIndex
from serving.errors import BadQuery, ReleaseRefused
from serving.exact import Exact
from serving.index import Keep, Matrix
from serving.index_file import (
    CARD,
    IndexCard,
    IndexDials,
    lists_for,
    make_index,
    nearest,
    open_index,
    read_card,
    recall_of,
    remake_index,
    tuned,
    write_index,
)

ROWS, WIDTH, K = 20_000, 16, 50
DIALS = IndexDials(exact_up_to=0, k=K, recall=0.9, seed=3)


def unit(matrix: Matrix) -> Matrix:
    return np.asarray(matrix / np.linalg.norm(matrix, axis=-1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.fixture(scope="module")
def matrix(rng: np.random.Generator) -> Matrix:
    return unit(rng.standard_normal((ROWS, WIDTH), np.float32))


@pytest.fixture(scope="module")
def queries(rng: np.random.Generator) -> Matrix:
    return unit(rng.standard_normal((64, WIDTH), np.float32))


@pytest.fixture(scope="module")
def built(matrix: Matrix, queries: Matrix) -> IvfIndex:
    index, _ = make_index(matrix, queries, DIALS)
    assert isinstance(index, IvfIndex)
    return index


def card_of(index: IvfIndex) -> IndexCard:
    held = {"nlist": index.nlist, "nprobe": index.nprobe, "widening": index.widening}
    return IndexCard(kind="ivf", rows=index.rows, width=index.width, files=(), **held)  # type: ignore[arg-type]


def by_full_sort(matrix: Matrix, queries: Matrix, k: int) -> np.ndarray:
    return np.argsort(-(queries @ matrix.T), axis=1)[:, :k]


def test_blocks_find_what_a_full_sort_finds(matrix: Matrix, queries: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.index_file.CHUNK", 3_000)
    found = nearest(matrix, queries, K)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.sort(by_full_sort(matrix, queries, K), axis=1))


def test_as_few_lists_are_probed_as_reach_the_wanted_recall(matrix: Matrix, queries: Matrix, built: IvfIndex) -> None:
    truth, probed = by_full_sort(matrix, queries, K), built.nprobe
    assert recall_of(built, queries, truth) >= 0.9
    built.nprobe = probed - 1
    try:
        assert recall_of(built, queries, truth) < 0.9
    finally:
        built.nprobe = probed


def test_a_recall_out_of_reach_is_said(matrix: Matrix, queries: Matrix) -> None:
    index = IvfIndex.build(matrix, nlist=64, nprobe=1, seed=3, threads=1)
    card = tuned(index, matrix, queries, dials=IndexDials(k=K, recall=0.99, most_probed=2))
    assert card.nprobe == index.nprobe == 2
    assert card.recall < card.wanted == 0.99


@pytest.mark.parametrize("every", [2, 5, 20])
def test_recall_stays_when_a_share_of_the_rows_is_kept(
    matrix: Matrix, queries: Matrix, built: IvfIndex, every: int
) -> None:
    kept = np.arange(ROWS) % every == 0
    truth = by_full_sort(matrix[kept], queries, K) * every
    assert recall_of(built, queries, truth, keep=Keep.of(kept)) >= 0.87  # tuned to 0.9, on another fifth


def test_the_search_of_a_share_is_no_wider_than_it_must_be(matrix: Matrix, queries: Matrix, built: IvfIndex) -> None:
    widening, kept = built.widening, np.arange(ROWS) % 5 == 0
    truth = by_full_sort(matrix[kept], queries, K) * 5
    built.widening = 0.0
    try:
        assert recall_of(built, queries, truth, keep=Keep.of(kept)) < 0.87
    finally:
        built.widening = widening


def test_one_seed_gives_one_index(matrix: Matrix, queries: Matrix) -> None:
    one, other = (IvfIndex.build(matrix, nlist=32, nprobe=2, seed=9, threads=1) for _ in range(2))
    np.testing.assert_array_equal(one.lists, other.lists)
    np.testing.assert_array_equal(one.search(queries[0], K).rows, other.search(queries[0], K).rows)


def test_lists_kept_follow_a_model_that_turned_every_embedding(
    matrix: Matrix, queries: Matrix, built: IvfIndex
) -> None:
    turn = np.linalg.qr(np.random.default_rng(8).standard_normal((WIDTH, WIDTH)))[0].astype(np.float32)
    moved, asked = matrix @ turn, queries @ turn
    again = built.rebuilt_with(moved, built.lists, threads=1)
    np.testing.assert_array_equal(again.lists, built.lists)
    assert recall_of(again, asked, by_full_sort(moved, asked, K)) == pytest.approx(0.9, abs=0.03)


def test_a_row_that_is_new_at_an_increment_goes_to_the_list_it_is_nearest(matrix: Matrix, built: IvfIndex) -> None:
    lists = built.lists
    lists[7] = -1
    again = built.rebuilt_with(matrix, lists, threads=1)
    assert again.search(matrix[7], 1).rows.tolist() == [7]


@pytest.mark.parametrize("more", [1_000, 3], ids=["too many lists probed", "recall not reached"])
def test_lists_that_no_longer_fit_are_made_anew(matrix: Matrix, queries: Matrix, built: IvfIndex, more: int) -> None:
    dials = replace(DIALS, most_probed=built.nprobe + more)
    shuffled = np.random.default_rng(1).permutation(matrix)  # rows share nothing with the lists they are in
    index, card = remake_index(built, shuffled, built.lists, queries=queries, dials=dials)
    assert card.recall >= 0.9
    assert isinstance(index, IvfIndex)
    assert not np.array_equal(index.lists, built.lists)


def test_lists_of_other_rows_are_refused(matrix: Matrix, built: IvfIndex) -> None:
    with pytest.raises(BadQuery, match="do not fit 20000 rows"):
        built.rebuilt_with(matrix, built.lists[1:], threads=1)


def test_embeddings_that_are_not_numbers_are_refused(matrix: Matrix) -> None:
    broken = matrix.copy()
    broken[11, 3] = np.inf
    with pytest.raises(BadQuery, match="not finite"):
        make_index(broken, broken, DIALS)


@pytest.mark.parametrize(("rows", "lists"), [(3_000_000, 4096), (200_000, 1024), (10_000, 256)])
def test_lists_grow_with_the_root_of_the_rows(rows: int, lists: int) -> None:
    assert lists_for(rows) == lists  # 2.4 x sqrt = 4157, 1073, 240


def test_a_small_catalogue_is_searched_exactly(matrix: Matrix, queries: Matrix, tmp_path: Path) -> None:
    index, card = make_index(matrix, queries, IndexDials())
    write_index(tmp_path, index, card)
    assert isinstance(open_index(tmp_path), Exact)
    assert read_card(tmp_path).kind == "exact"


def test_a_folder_gives_back_the_index_as_it_was_tuned(built: IvfIndex, queries: Matrix, tmp_path: Path) -> None:
    card = card_of(built)
    write_index(tmp_path, built, card)
    found = open_index(tmp_path)
    assert isinstance(found, IvfIndex)
    assert (found.nprobe, found.widening) == (built.nprobe, built.widening)
    np.testing.assert_array_equal(found.search(queries[0], K).rows, built.search(queries[0], K).rows)


def test_a_mapped_index_can_be_written_to_another_folder(built: IvfIndex, queries: Matrix, tmp_path: Path) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    for folder in (first, second):
        folder.mkdir()
    write_index(first, built, card_of(built))
    write_index(second, open_index(first), card_of(built))
    np.testing.assert_array_equal(open_index(second).search(queries[0], K).rows, built.search(queries[0], K).rows)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1_000])


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("name", [LISTS, PLACES])
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
def test_a_file_that_is_not_what_was_written_is_refused(
    built: IvfIndex, tmp_path: Path, name: str, harm: Callable[[Path], None]
) -> None:
    write_index(tmp_path, built, card_of(built))
    harm(tmp_path / name)
    with pytest.raises(ReleaseRefused, match=name):
        open_index(tmp_path)


def test_lists_of_another_kind_are_refused(built: IvfIndex, matrix: Matrix, tmp_path: Path) -> None:
    built.save(tmp_path)
    flat = faiss.IndexFlatIP(WIDTH)
    flat.add(matrix)
    faiss.write_index(flat, str(tmp_path / LISTS))
    with pytest.raises(ReleaseRefused, match="not of one index"):
        IvfIndex.open(tmp_path)


def test_a_folder_without_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReleaseRefused, match=CARD):
        open_index(tmp_path)


def test_a_search_in_a_mapped_index_starts_no_thread(built: IvfIndex, queries: Matrix, tmp_path: Path) -> None:
    write_index(tmp_path, built, card_of(built))
    found = open_index(tmp_path)
    assert isinstance(found, IvfIndex)
    assert faiss.downcast_InvertedLists(found._native.invlists).prefetch_nthread == 0
