"""Whether one JSON Schema takes everything that another took, for the keywords that event contracts use.

A keyword that is not known here counts as narrower unless both sides say the same: what cannot be judged is not let through.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

Schema = Mapping[str, Any]
ANYTHING: Schema = {}
_NOTES = frozenset(("title", "description", "examples", "default", "discriminator", "$comment"))
_SIZES = {"Length": "length", "Items": "items", "Properties": "fields"}
_LIMITS = frozenset((*(side + size for side in ("min", "max") for size in _SIZES), "minimum", "maximum"))
_JUDGED = _NOTES | _LIMITS | {
    "type", "enum", "const", "anyOf", "$ref", "properties", "required", "additionalProperties", "items",
    "exclusiveMinimum", "exclusiveMaximum",
}  # fmt: skip
_NAMES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


class Sides(NamedTuple):
    """The `$defs` that the references of either side lead to."""

    old: Mapping[str, Schema]
    new: Mapping[str, Schema]


def narrowed(at: str, old: Schema, new: Schema, *, sides: Sides) -> list[str]:
    """One sentence for each thing that `old` took and `new` refuses or reads otherwise; each begins with its path `at`."""
    now = list(_alternatives(new, sides.new))
    found: list[str] = []
    for was in _split(_alternatives(old, sides.old)):
        gone = [_gone(at, was)]
        answers = [_one(at, was, one, sides=sides) for one in now]
        if all(answers):
            near = sorted((answer for answer in answers if answer != gone), key=len)
            found += near[0] if near else gone
    return found


def _split(forms: Iterable[Schema]) -> Iterator[Schema]:
    """Enumerations value by value: each may be taken by another form of the new side."""
    for form in forms:
        values = _values(form)
        yield from [form] if values is None else [{"const": value} for value in values]


def _alternatives(schema: Schema, defs: Mapping[str, Schema]) -> Iterator[Schema]:
    """The single forms a value may take: references followed, unions taken apart."""
    beside = {word: value for word, value in schema.items() if word not in _NOTES and word not in ("$ref", "anyOf")}
    if "$ref" in schema:
        yield from _alternatives({**defs[schema["$ref"].rpartition("/")[2]], **beside}, defs)
    elif "anyOf" in schema:
        for one in schema["anyOf"]:
            yield from _alternatives({**one, **beside}, defs)
    elif isinstance(schema.get("type"), list):
        for kind in schema["type"]:
            yield from _alternatives({**schema, "type": kind}, defs)
    else:
        yield schema


def _one(at: str, old: Schema, new: Schema, *, sides: Sides) -> list[str]:
    """The same for two single forms."""
    values = _values(old)
    if values is not None:
        return [] if all(_allows(new, value) for value in values) else [_gone(at, old)]
    allowed = _values(new)
    if allowed is not None:
        return [_gone(at, old) if allowed == [None] else f"{at}: only {', '.join(map(_shown, allowed))} is allowed now"]
    kind, now = old.get("type"), new.get("type")
    if now is not None and now != kind and (kind, now) != ("integer", "number"):
        return [_gone(at, old)]
    found = [f"{at}: {words}" for words in (*_tighter(old, new), *_unjudged(old, new))]
    if kind == "array" and "items" in new:
        found += narrowed(f"{at}[]", old.get("items", ANYTHING), new["items"], sides=sides)
    return found + _fields(at, old, new, sides=sides) if kind == "object" else found


def _gone(at: str, old: Schema) -> str:
    form = _shown(old["const"]) if "const" in old else old.get("type", "any value")
    return f"{at}: {form} is no longer allowed"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _values(schema: Schema) -> list[Any] | None:
    """The values of an enumeration, None when it is none."""
    if schema.get("type") == "null":
        return [None]
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _allows(schema: Schema, value: Any) -> bool:
    """Whether a single form takes a plain value."""
    allowed = _values(schema)
    if allowed is not None:
        return any(type(one) is type(value) and one == value for one in allowed)
    if value is None:
        return "type" not in schema
    name = _NAMES[type(value)]
    exact: dict[str, Any] = {"type": name}
    if name == "string":
        exact |= {"minLength": len(value), "maxLength": len(value)}
    elif name in ("integer", "number"):
        exact |= {"minimum": value, "maximum": value}
    if "pattern" in schema and isinstance(value, str) and re.search(schema["pattern"], value):
        exact["pattern"] = schema["pattern"]
    return not _one("", exact, schema, sides=Sides({}, {}))


def _tighter(old: Schema, new: Schema) -> Iterator[str]:
    """What the limits of size and value no longer let through."""
    for size, word in _SIZES.items():
        was, now = old.get(f"min{size}", 0), new.get(f"min{size}", 0)
        if now > was:
            yield f"the least {word} rose from {was} to {now}"
        was, now = old.get(f"max{size}"), new.get(f"max{size}")
        if now is not None and (was is None or now < was):
            yield f"the most {word} fell from {'no limit' if was is None else was} to {now}"
    for side, sign in (("Minimum", 1), ("Maximum", -1)):
        low, high = _bound(old, side, sign), _bound(new, side, sign)
        if high > low:
            yield f"the {side.lower()} narrowed from {_limit(old, side)} to {_limit(new, side)}"


def _bound(schema: Schema, side: str, sign: int) -> tuple[float, bool]:
    """The tightest bound of a side as (value, whether it is excluded), larger is tighter."""
    bounds = [
        (sign * schema[key], shut) for key, shut in ((side.lower(), False), (f"exclusive{side}", True)) if key in schema
    ]
    return max(bounds, default=(float("-inf"), False))


def _limit(schema: Schema, side: str) -> str:
    shown = [
        f"{schema[key]} {word}"
        for key, word in ((side.lower(), "included"), (f"exclusive{side}", "excluded"))
        if key in schema
    ]
    return " and ".join(shown) or "no limit"


def _unjudged(old: Schema, new: Schema) -> Iterator[str]:
    for word in sorted(new.keys() - _JUDGED):
        if old.get(word) != new[word]:
            yield f"{word} changed from {_shown(old.get(word))} to {_shown(new[word])}"


def _fields(at: str, old: Schema, new: Schema, *, sides: Sides) -> list[str]:
    """What an object's fields lost."""
    were, now = old.get("properties", {}), new.get("properties", {})
    rest_was, rest_now = _rest(old), _rest(new)
    needed_before, needed = set(old.get("required", ())), set(new.get("required", ()))
    found = []
    for name in dict.fromkeys((*were, *now, *sorted(needed))):
        here = f"{at}.{name}"
        was, one = were.get(name, rest_was), now.get(name, rest_now)
        if name in needed - needed_before:
            found.append(f"{here}: required now, and old events may be without it")
        elif name in were and name in now and name not in needed_before and _default(was) != _default(one):
            found.append(
                f"{here}: events without it would change their meaning, from {_default(was)} to {_default(one)}"
            )
        if was is not None and (name in were or name in now):
            found += [f"{here}: removed"] if one is None else narrowed(here, was, one, sides=sides)
    if rest_was is not None:
        more = [f"{at}: other fields are no longer allowed"]
        found += more if rest_now is None else narrowed(f"{at}[*]", rest_was, rest_now, sides=sides)
    return found


def _rest(schema: Schema) -> Schema | None:
    """What fields without a name of their own must be; None when there may be none."""
    rest = schema.get("additionalProperties", True)
    return (ANYTHING if rest else None) if isinstance(rest, bool) else rest


def _default(schema: Schema) -> str:
    return _shown(schema["default"]) if "default" in schema else "nothing"
