"""One score from the objectives: the formula, read from configuration. A formula is part of a release.

    {"click": 1.0, "like": 0.5}                                                sum of weight x objective, the short form
    {"kind": "sum", "terms": {"click": {"weight": 1.0, "power": 0.5}}}         sum of weight x objective ** power
    {"kind": "product", "terms": {"click": {"plus": 0.1, "power": 2.0}}}       product of (objective + plus) ** power

Weight and power are 1 and plus is 0 where they are left out. The order of terms, and terms of weight 0, do not count when
formulas are compared.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from registry.errors import BadFormula, BadScores

Scores = npt.NDArray[np.float64]
Kind = Literal["sum", "product"]
KINDS = get_args(Kind)


class Weighed(Struct, frozen=True, forbid_unknown_fields=True):
    """A term of a sum: weight x objective ** power; a weight may be negative."""

    weight: float = 1.0
    power: float = 1.0


class Raised(Struct, frozen=True, forbid_unknown_fields=True):
    """A term of a product: (objective + plus) ** power; with `plus` above 0 an objective of 0 does not end it all."""

    plus: float = 0.0
    power: float = 1.0


class SumSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="sum"):
    """A weighted sum as configuration spells it."""

    terms: dict[str, Weighed]


class ProductSpec(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="product"):
    """A product as configuration spells it."""

    terms: dict[str, Raised]


FormulaSpec = SumSpec | ProductSpec


class Term(NamedTuple):
    """One objective of a formula; `number` is the weight in a sum and what is added in a product."""

    objective: str
    number: float
    power: float


@dataclass(frozen=True)
class Formula:
    """A score from the objectives; made by `parse`, equal to another that is the same function."""

    kind: Kind
    terms: tuple[Term, ...]  # by objective

    def score(self, probabilities: npt.NDArray[np.floating], names: Sequence[str]) -> Scores:
        """Scores [n] of probabilities [n, O], whose columns are the objectives `names`.

        BadFormula when one of the formula's is missing, BadScores when a row's probabilities make no finite score.
        """
        missing = [term.objective for term in self.terms if term.objective not in names]
        if missing:
            raise BadFormula(f"objective {missing[0]!r} of the formula is not among the scores {', '.join(names)}")
        columns = [names.index(term.objective) for term in self.terms]
        out = np.full(len(probabilities), 0.0 if self.kind == "sum" else 1.0)
        with np.errstate(invalid="ignore"):
            if self.kind == "sum" and all(term.power == 1.0 for term in self.terms):
                out = probabilities[:, columns].astype(np.float64) @ np.array([term.number for term in self.terms])
            else:
                for column, term in zip(columns, self.terms, strict=True):
                    part = _part(self.kind, term, probabilities[:, column].astype(np.float64))
                    out = out + part if self.kind == "sum" else out * part
        if not np.isfinite(out).all():
            row = int(np.flatnonzero(~np.isfinite(out))[0])
            raise BadScores(
                f"row {row} of the scores, {probabilities[row].tolist()}, makes no score; allowed are 0 to 1"
            )
        return out

    def canonical(self) -> str:
        """The formula as JSON that is the same for equal formulas and parses back to one."""
        number = "weight" if self.kind == "sum" else "plus"
        terms = {term.objective: {number: term.number, "power": term.power} for term in self.terms}
        return json.dumps({"kind": self.kind, "terms": terms}, sort_keys=True, separators=(",", ":"))


def parse(body: Mapping[str, object], objectives: Sequence[str]) -> Formula:
    """The formula that `body` spells over these objectives; BadFormula says what is wrong and what is allowed."""
    if body.get("kind", "sum") not in KINDS:
        raise BadFormula(f"formula kind {body['kind']!r} is not known; allowed are {', '.join(KINDS)}")
    try:
        spec = msgspec.convert(dict(body) if "kind" in body else _long_form(body), FormulaSpec)
    except msgspec.ValidationError as error:
        raise BadFormula(f"formula {dict(body)} does not fit its kind: {error}") from None
    for name in spec.terms:
        if name not in objectives:
            raise BadFormula(f"formula names {name!r}, which is no objective; allowed are {', '.join(objectives)}")
    terms = tuple(sorted(_term(name, one) for name, one in spec.terms.items()))
    formula = Formula(
        "sum" if isinstance(spec, SumSpec) else "product", tuple(one for one in terms if _counts(one, spec))
    )
    if not formula.terms:
        raise BadFormula(f"formula {dict(body)} weighs no objective; allowed are {', '.join(objectives)}")
    _check_size(formula)
    return formula


def _long_form(weights: Mapping[str, object]) -> dict[str, object]:
    return {"kind": "sum", "terms": {name: {"weight": weight} for name, weight in weights.items()}}


def _term(name: str, spec: Weighed | Raised) -> Term:
    """The term, its numbers checked."""
    label, number = ("weight", spec.weight) if isinstance(spec, Weighed) else ("plus", spec.plus)
    if not math.isfinite(number):
        raise BadFormula(f"formula gives {name} the {label} {number}; give a finite number")
    if label == "plus" and number < 0:
        raise BadFormula(f"formula gives {name} the plus {number}; give 0 or more")
    if not (math.isfinite(spec.power) and spec.power > 0):
        raise BadFormula(f"formula gives {name} the power {spec.power}; give a finite number above 0")
    return Term(name, number + 0.0, spec.power)  # no minus zero, which would spell itself differently


def _counts(term: Term, spec: FormulaSpec) -> bool:
    return isinstance(spec, ProductSpec) or term.number != 0


def _check_size(formula: Formula) -> None:
    """BadFormula where objectives of 1 make a score that is no number: none makes a larger one."""
    ones = np.ones(1)
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [abs(_part(formula.kind, term, ones)[0]) for term in formula.terms]
        size = sum(parts) if formula.kind == "sum" else math.prod(parts)
    if not math.isfinite(size):
        raise BadFormula(f"formula {formula.canonical()} is infinite where every objective is 1; give smaller numbers")


def _part(kind: Kind, term: Term, values: Scores) -> Scores:
    """What one term contributes, [n]."""
    base = values if kind == "sum" else values + term.number
    raised: Scores = base if term.power == 1.0 else base**term.power
    return term.number * raised if kind == "sum" else raised
