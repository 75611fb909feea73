"""The dials of a promotion from a command's words and a JSON file; whatever is not one of them is refused by name."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec

from monitoring.canary_plan import CanaryConfig
from monitoring.off_policy_gate import OffPolicyConfig
from release.errors import CannotStart
from release.promotion_plan import PromotionConfig

WITHIN: Mapping[str, type[Any]] = {"gate": CanaryConfig, "off_policy": OffPolicyConfig}


def dials_from(given: Mapping[str, Any], file: Path | None) -> PromotionConfig:
    """What was given with the file's dials over it, those of gate and off-policy one by one; CannotStart."""
    more = read_object(file) if file is not None else {}
    where = f"the dials in {file}"
    _known(more, PromotionConfig, where)
    for name, kind in WITHIN.items():
        part = more.get(name, {})
        if not isinstance(part, dict):
            raise CannotStart(f"{name} {part!r} of {where} is not allowed: an object of dials by name")
        _known(part, kind, f"{name} of {where}")
    merged = {**given, **more, "gate": {**given["gate"], **more.get("gate", {})}}
    try:
        return msgspec.convert(merged, PromotionConfig)
    except (msgspec.ValidationError, ValueError) as error:
        raise CannotStart(f"the dials are not allowed: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """A file's JSON object; CannotStart."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"{path} cannot be read: {error}") from None
    return to_object(text, what=str(path))


def to_object(text: str, *, what: str) -> dict[str, Any]:
    """A JSON object; CannotStart."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise CannotStart(f"{what} cannot be read: {error}") from None
    if not isinstance(body, dict):
        raise CannotStart(f"{what} is no JSON object")
    return body


def _known(given: Mapping[str, Any], kind: type[Any], where: str) -> None:
    names = [one.name for one in fields(kind)]
    for name in given:
        if name not in names:
            raise CannotStart(f"{name!r} is no dial of {where}; allowed are {', '.join(names)}")
