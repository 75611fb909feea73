"""What a benchmark returns: figures, baseline, and the bars its issue set, as one JSON object."""

import operator
from collections.abc import Callable, Mapping
from importlib.metadata import version

import msgspec
from msgspec import Struct

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class BenchError(Exception):
    """A benchmark cannot run as asked; the message is one sentence."""


class Bar(Struct, frozen=True):
    """One figure against its bound; a figure that could not be measured does not hold."""

    name: str
    value: float | None
    op: str
    bound: float
    holds: bool


def bar(figures: Mapping[str, float | None], name: str, op: str, bound: float) -> Bar:
    """Hold the figure of that name against its bound."""
    value = figures[name]
    return Bar(name, value, op, bound, value is not None and _OPERATORS[op](value, bound))


class Result(Struct, frozen=True, kw_only=True):
    """One run of one benchmark; names carry their unit (`feed_p99_ms`), None is "could not be measured"."""

    bench: str
    figures: dict[str, float | None]
    baseline: dict[str, float | None]
    bars: tuple[Bar, ...]
    seed: int
    version: str = version("livefeed")

    def line(self) -> str:
        """The JSON line."""
        return msgspec.json.encode(self).decode()
