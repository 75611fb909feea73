"""What every item index does: 36 embeddings stand on a circle, ten degrees apart, so that distances can be told by hand."""

from collections.abc import Callable
from math import cos, radians, sin
from pathlib import Path

import numpy as np
import pytest

from serving.ann import IvfIndex
from serving.errors import BadQuery
from serving.exact import Exact
from serving.index import Index, Keep, Matrix, checked

WIDTH = 8
Make = Callable[[Matrix], Index]


def at(degrees: float, *, length: float = 1.0) -> Matrix:
    """An embedding of which the first two numbers are a point of the circle."""
    out = np.zeros(WIDTH, np.float32)
    out[:2] = length * cos(radians(degrees)), length * sin(radians(degrees))
    return out


CIRCLE = np.stack([at(10 * row) for row in range(36)])


def inverted(matrix: Matrix) -> IvfIndex:
    """Four lists, all of which a search looks into: nothing is approximate but float16."""
    return IvfIndex.build(matrix, nlist=4, nprobe=4, seed=1, threads=1)


@pytest.fixture(params=["exact", "exact, mapped", "inverted lists", "inverted lists, mapped"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    def build(matrix: Matrix) -> Index:
        built = Exact(matrix) if "exact" in request.param else inverted(matrix)
        if "mapped" not in request.param:
            return built
        built.save(tmp_path)
        return type(built).open(tmp_path)

    return build


def test_the_nearest_come_first_with_their_inner_products(make: Make) -> None:
    found = make(CIRCLE).search(at(3), 4)
    assert found.rows.tolist() == [0, 1, 35, 2]  # 3, 7, 13 and 17 degrees away
    np.testing.assert_allclose(found.scores, [cos(radians(away)) for away in (3, 7, 13, 17)], atol=1e-3)


def test_rows_and_scores_are_plain_numbers_of_the_stated_kinds(make: Make) -> None:
    found = make(CIRCLE).search(at(3), 4)
    assert (found.rows.dtype, found.scores.dtype) == (np.int32, np.float32)


def test_a_long_embedding_is_near_from_afar(make: Make) -> None:
    matrix = CIRCLE.copy()
    matrix[6] = at(60, length=3.0)  # 3 cos 60 = 1.5
    assert make(matrix).search(at(0), 2).rows.tolist() == [6, 0]


def test_all_rows_come_when_more_are_asked_for(make: Make) -> None:
    assert sorted(make(CIRCLE).search(at(3), 100).rows.tolist()) == list(range(36))


@pytest.mark.parametrize("k", [0, -1])
def test_none_come_when_none_are_asked_for(make: Make, k: int) -> None:
    assert make(CIRCLE).search(at(3), k).rows.tolist() == []


def test_only_rows_kept_come_however_far(make: Make) -> None:
    keep = Keep.of(np.isin(np.arange(36), [20, 17, 2]))
    assert make(CIRCLE).search(at(3), 10, keep=keep).rows.tolist() == [2, 20, 17]  # 17, 163 and 167 degrees away


def test_nothing_comes_when_nothing_is_kept(make: Make) -> None:
    assert make(CIRCLE).search(at(3), 10, keep=Keep.of(np.zeros(36, bool))).rows.tolist() == []


def test_a_set_less_some_rows_no_longer_finds_them_and_the_first_set_does(make: Make) -> None:
    index, every = make(CIRCLE), Keep.of(np.ones(36, bool))
    fewer = every.without(np.array([0, 35, 0], np.int32))
    assert fewer.count == 34
    assert index.search(at(3), 2, keep=fewer).rows.tolist() == [1, 2]
    assert index.search(at(3), 2, keep=every).rows.tolist() == [0, 1]


def test_an_embedding_is_given_back(make: Make) -> None:
    np.testing.assert_allclose(make(CIRCLE).vector(7), at(70), atol=1e-3)


def test_size_and_width_are_the_matrix_s(make: Make) -> None:
    index = make(CIRCLE)
    assert (index.rows, index.width) == (36, WIDTH)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (np.zeros(3, np.float32), r"shape \(3,\).*\(8,\)"),
        (CIRCLE, r"shape \(36, 8\)"),
        (np.full(WIDTH, np.nan, np.float32), "finite"),
        (np.array([1.0] * (WIDTH - 1) + [np.inf], np.float32), "finite"),
    ],
    ids=["too short", "a matrix", "not a number", "infinite"],
)
def test_a_query_that_does_not_fit_is_refused(make: Make, query: Matrix, said: str) -> None:
    with pytest.raises(BadQuery, match=said):
        make(CIRCLE).search(query, 5)


def test_a_query_of_huge_numbers_is_finite_though_its_square_is_not() -> None:
    huge = np.full(WIDTH, 3e30, np.float32)
    assert checked(huge, Exact(CIRCLE)) is huge


def test_rows_of_another_index_are_refused(make: Make) -> None:
    with pytest.raises(BadQuery, match="of 35 rows; the index has 36"):
        make(CIRCLE).search(at(3), 5, keep=Keep.of(np.ones(35, bool)))
