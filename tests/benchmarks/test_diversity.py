"""The figures of the diversity benchmark, by hand."""

import pytest

from benchmarks.diversity import MIX, entropy, gini, over_null


def test_entropy_is_in_bits_of_the_shares() -> None:
    assert entropy([3, 3, 3]) == 0.0
    assert entropy([1, 2, 3, 4]) == 2.0
    assert entropy([1, 1, 2, 3]) == pytest.approx(0.5 * 1 + 2 * 0.25 * 2)


def test_gini_is_nothing_when_all_have_the_same_and_grows_with_those_who_have_nothing() -> None:
    assert gini([2, 2, 2]) == 0.0
    assert gini([0, 0, 0, 8]) == pytest.approx(0.75)
    assert gini([1, 3]) == pytest.approx(0.25)


def test_over_null_is_the_difference_of_two_differences() -> None:
    """3 bits become 5 with clusters and 4 become 4.5 without, in one world; 1 and 0.5 in the other: 1.5 and 0.5, mean 1."""
    runs = {"d0": [3.0, 1.0], "d1": [5.0, 2.0], "null_d0": [4.0, 4.0], "null_d1": [4.5, 4.5]}
    found = {name: [dict.fromkeys(MIX, value) for value in values] for name, values in runs.items()}
    assert over_null(found, "d1")["category_entropy_bits_added_over_null"] == pytest.approx(1.0)
