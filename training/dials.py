"""Training configurations as plain values: range checks when they are made, and their form in a manifest."""

from dataclasses import fields
from typing import Any

from training.errors import BadDials

Plain = float | int | str | bool


def as_dials(config: Any) -> dict[str, Plain]:
    """A configuration dataclass as a flat map; tuples become words such as `64-32`."""
    out: dict[str, Plain] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        out[field.name] = "-".join(str(part) for part in value) if isinstance(value, tuple) else value
    return out


def require(config: Any, *, positive: tuple[str, ...] = (), shares: tuple[str, ...] = ()) -> None:
    """BadDials unless the `positive` dials are above 0 and the `shares` lie in [0, 1)."""
    for name in positive:
        if not getattr(config, name) > 0:
            raise BadDials(f"dial {name} is {getattr(config, name)}; it must be above 0")
    for name in shares:
        if not 0 <= getattr(config, name) < 1:
            raise BadDials(f"dial {name} is {getattr(config, name)}; it must be at least 0 and below 1")
