"""The formula: what configuration may say, what it makes of probabilities, and when two are the same."""

import json

import numpy as np
import pytest

from registry.errors import BadFormula, BadScores
from registry.formula import parse

NAMES = ("click", "completion", "like")
ROWS = np.array([[0.5, 0.25, 0.0], [1.0, 0.0, 1.0]], dtype=np.float32)


def test_the_short_form_is_the_sum_of_weight_times_objective() -> None:
    assert parse({"click": 1.0, "like": -2.0}, NAMES).score(ROWS, NAMES).tolist() == [0.5, -1.0]


def test_a_sum_raises_each_objective_to_its_power() -> None:
    formula = parse({"kind": "sum", "terms": {"click": {"weight": 8, "power": 2}, "completion": {"power": 0.5}}}, NAMES)
    assert formula.score(ROWS, NAMES).tolist() == [8 * 0.25 + 0.5, 8.0]


def test_a_product_raises_objective_plus_a_number_to_its_power() -> None:
    formula = parse({"kind": "product", "terms": {"click": {}, "like": {"plus": 1, "power": 3}}}, NAMES)
    assert formula.score(ROWS, NAMES).tolist() == [0.5 * 1.0, 1.0 * 8.0]


def test_columns_are_found_by_name_and_not_by_place() -> None:
    formula = parse({"like": 1.0}, NAMES)
    assert formula.score(ROWS, NAMES).tolist() == [0.0, 1.0]
    assert formula.score(ROWS[:, ::-1], NAMES[::-1]).tolist() == [0.0, 1.0]


def test_no_candidates_have_no_scores() -> None:
    assert parse({"click": 1.0}, NAMES).score(ROWS[:0], NAMES).shape == (0,)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"gifts": 1.0}, "'gifts', which is no objective; allowed are click, completion, like"),
        ({"click": float("nan")}, "the weight nan"),
        ({"click": float("inf")}, "the weight inf"),
        ({"click": 0.0}, "weighs no objective"),
        ({}, "weighs no objective"),
        ({"click": "much"}, "Expected `float`, got `str`"),
        ({"click": True}, "Expected `float`, got `bool`"),
        ({"kind": "max", "terms": {"click": {}}}, "'max' is not known; allowed are sum, product"),
        ({"kind": ["sum"], "terms": {"click": {}}}, "is not known; allowed are sum, product"),
        ({"kind": "sum"}, "missing required field `terms`"),
        ({"kind": "product", "terms": {}}, "weighs no objective"),
        ({"kind": "sum", "terms": {"click": {"power": -1}}}, "the power -1.0"),
        ({"kind": "sum", "terms": {"click": {"power": 0}}}, "the power 0.0"),
        ({"kind": "sum", "terms": {"click": {"power": float("nan")}}}, "the power nan"),
        ({"kind": "product", "terms": {"click": {"plus": -0.1}}}, "the plus -0.1"),
        ({"kind": "product", "terms": {"click": {"weight": 2}}}, "unknown field `weight`"),
        ({"kind": "product", "terms": {"click": {"plus": 9, "power": 400}}}, "is infinite where every objective is 1"),
        ({"click": 1e308, "like": -1e308, "completion": 1e308}, "is infinite where every objective is 1"),
    ],
)  # fmt: skip
def test_what_makes_no_score_is_refused_by_name(body: dict[str, object], said: str) -> None:
    with pytest.raises(BadFormula) as refused:
        parse(body, NAMES)
    assert said in str(refused.value)


def test_an_objective_that_the_model_did_not_score_is_named() -> None:
    with pytest.raises(BadFormula, match=r"'like'.*not among the scores click"):
        parse({"like": 1.0}, NAMES).score(ROWS[:, :1], NAMES[:1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -0.1])
def test_a_model_that_answers_with_what_is_no_probability_is_refused(bad: float) -> None:
    """-0.1 has no square root; the row is named."""
    rows = ROWS.copy()
    rows[1, 0] = bad
    with pytest.raises(BadScores, match="row 1"):
        parse({"kind": "sum", "terms": {"click": {"power": 0.5}}}, NAMES).score(rows, NAMES)


def test_equal_functions_are_equal_and_spell_themselves_alike() -> None:
    short = parse({"like": 1, "click": 2.0, "completion": -0.0}, NAMES)
    long = parse({"kind": "sum", "terms": {"click": {"weight": 2}, "like": {"power": 1.0}}}, NAMES)
    assert short == long
    assert short.canonical() == long.canonical()
    assert hash(short) == hash(long)


@pytest.mark.parametrize(
    "other",
    [
        {"click": 1.5},
        {"completion": 1.0},
        {"kind": "sum", "terms": {"click": {"power": 2}}},
        {"kind": "product", "terms": {"click": {}}},
        {"click": 1.0, "like": 1.0},
    ],
)
def test_another_function_spells_itself_another_way(other: dict[str, object]) -> None:
    assert parse(other, NAMES).canonical() != parse({"click": 1.0}, NAMES).canonical()


@pytest.mark.parametrize(
    "body",
    [
        {"like": 0.25, "click": 1.0},
        {"kind": "product", "terms": {"click": {"plus": -0.0, "power": 0.3}, "like": {"plus": 1e-3}}},
    ],
)
def test_the_canonical_form_is_json_that_parses_back(body: dict[str, object]) -> None:
    formula = parse(body, NAMES)
    again = parse(json.loads(formula.canonical()), NAMES)
    assert again == formula
    assert again.canonical() == formula.canonical()
