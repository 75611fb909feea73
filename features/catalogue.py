"""The definitions as a table for people: what `livefeed features list` prints and docs/features.md holds."""

from collections.abc import Sequence
from typing import NamedTuple

from features.aggregates import Affinity, Last, Present, Ratio, Recent, Sum, Top
from features.definitions import DAY, FEATURES, HOUR, MINUTE, Feature

_WHAT = {Affinity: "ratio by word", Last: "last value", Present: "present now", Ratio: "ratio", Recent: "recent list",
         Sum: "sum", Top: "top words"}  # fmt: skip
_HEADING = """# Features

Every feature the platform has, as `features/definitions.py` says it; written by `livefeed features list --markdown`.
Windows are event time. *Online* is the online store (Redis), *offline* a column of the daily feature table of its entity.
"""


class Row(NamedTuple):
    """One feature in words."""

    name: str
    computed: str
    window: str
    unit: str
    default: str
    stores: str
    description: str


def rows(features: Sequence[Feature] = FEATURES) -> list[Row]:
    """Each feature in words, in definition order."""
    return [
        Row(
            f"{one.entity.value}.{one.name}",
            _WHAT[type(one.aggregate)],
            window(one.window_s),
            one.unit,
            _default(one.default),
            "online, offline" if one.spark and one.entity.value != "pair" else "online",
            one.description,
        )
        for one in features
    ]


def window(seconds: float | None) -> str:
    """A length of time in its largest whole unit; `ever` for none."""
    if seconds is None:
        return "ever"
    unit, name = next((u, n) for u, n in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s")) if seconds % u == 0)
    return f"{seconds / unit:g} {name}"


def _default(value: object) -> str:
    return "none" if value is None else "empty" if value in ((), {}, "") else str(value)


def markdown() -> str:
    """The whole page docs/features.md."""
    head = ["feature", "computed as", "window", "unit", "default", "stores", "what it says"]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows())]
    return _HEADING + "\n" + "\n".join(lines) + "\n"
