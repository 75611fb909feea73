"""What a dial may be: a range by name, and the refusal of whatever lies outside of it, NaN and infinity always."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from monitoring.errors import BadPlan


@dataclass(frozen=True)
class Allowed:
    """A range of finite numbers: above or from `low`, below or up to `high`."""

    low: float
    high: float = math.inf
    low_counts: bool = True
    high_counts: bool = True

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        above = value >= self.low if self.low_counts else value > self.low
        return above and (value <= self.high if self.high_counts else value < self.high)

    def __str__(self) -> str:
        least = f"{'at least' if self.low_counts else 'above'} {self.low:g}"
        if math.isinf(self.high):
            return f"a number, {least}"
        return f"{least} and {'at most' if self.high_counts else 'below'} {self.high:g}"


CHANCE = Allowed(0, 0.5, low_counts=False, high_counts=False)  # an error that a test may make
PART = Allowed(0, 1, low_counts=False, high_counts=False)
POSITIVE = Allowed(0, low_counts=False)
SOME = Allowed(1)  # of what is counted


def check_dials(owner: str, dials: object, allowed: Mapping[str, Allowed]) -> None:
    """Refuse the first dial of `dials` that lies outside its range; BadPlan names it, its value and the range."""
    for name, range_ in allowed.items():
        value = getattr(dials, name)
        for one in value if isinstance(value, tuple) else (value,):
            if one not in range_:
                raise BadPlan(f"{name} {one} of {owner} is not allowed: {range_}")
