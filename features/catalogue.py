"""The definitions as tables for people: what `livefeed features list` prints and docs/features.md holds."""

from collections.abc import Sequence
from typing import NamedTuple

from features.aggregates import Last, Present, Ratio, Recent, Sessions, Sum
from features.definitions import (
    DAY,
    FEATURES,
    HOUR,
    KEEP_PUBLISHED_S,
    KEEP_REMOVED_S,
    KEEP_ROOM_S,
    KEEP_S,
    MINUTE,
    STRENGTH,
    Entity,
    Feature,
    Take,
)
from features.words import Affinity, Counts, Top

_HEADING = """# Features

Every feature the platform has, as `features/definitions.py` says it; written by `livefeed features list --markdown`.
Windows are event time; [the guide](guides/features.md) states their edges, what a value as of a moment is, and how it is
computed. *Online* is the online store (Redis), *daily* a column of the daily table of its entity; Spark computes every
feature as of any moment (`features/values_at.py`). *Kept* is how long after its last change, in wall time, the online store
holds the record that a feature is in.
"""
_SAID_BY = """
## Which events say what

A weight is added, a key or a value is a field of the event (`item_key`: the host of a room, else the item; `hour`: of the UTC
day; `event_at`: the event's time). *Start* marks events that count in a denominator.
"""
_STRENGTHS = """
## How strongly each event speaks

What *strength* means above.
"""


class Row(NamedTuple):
    """One feature in words."""

    name: str
    computed: str
    window: str
    unit: str
    default: str
    stores: str
    owner: str
    kept: str
    description: str


def rows(features: Sequence[Feature] = FEATURES) -> list[Row]:
    """Each feature in words, in definition order."""
    return [
        Row(
            f"{one.entity.value}.{one.name}",
            computed(one),
            window(one.window_s),
            one.unit,
            _default(one.default),
            "online, daily" if one.spark and one.entity is not Entity.PAIR else "online",
            one.owner,
            kept(one.entity),
            one.description,
        )
        for one in features
    ]


def computed(feature: Feature) -> str:
    """The aggregate with its dials."""
    match feature.aggregate:
        case Sum(window_s=None):
            return "sum"
        case Sum(bucket_s=bucket_s):
            return f"sum by {window(bucket_s)}"
        case Ratio(prior=(num, den)):
            return f"ratio, prior {num:g} / {den:g}"
        case Last():
            return "last value"
        case Recent(size=size):
            return f"last {size} distinct"
        case Sessions(gap_s=gap_s):
            return f"mean session, gap {window(gap_s)}"
        case Present(lease_s=lease_s):
            return f"present, lease {window(lease_s)}"
        case Top(size=size, word=word):
            return f"top {size} by `{word}`"
        case Affinity(size=size, word=word, prior=(num, den)):
            return f"ratio by `{word}`, prior {num:g} / {den:g}, {size} items"
        case Counts(size=size):
            return f"sums by word, at most {size}"
        case other:
            return type(other).__name__


def window(seconds: float | None) -> str:
    """A length of time in its largest whole unit; `ever` for none."""
    if seconds is None:
        return "ever"
    unit, name = next((u, n) for u, n in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min"), (1.0, "s")) if seconds % u == 0)
    return f"{seconds / unit:g} {name}"


def kept(entity: Entity) -> str:
    """How long the online store holds a record of the entity."""
    if entity is Entity.ITEM:
        media = f"media {window(KEEP_PUBLISHED_S)}, {window(KEEP_REMOVED_S)} once taken back"
        return f"{media}; rooms {window(KEEP_ROOM_S)}"
    held = KEEP_S[entity]
    return "for good" if held is None else window(held)


def said_by(feature: Feature) -> str:
    """What each event type adds, alike ones together."""
    if feature.reads:
        return f"as {feature.entity.value}.{feature.reads}"
    if feature.on.keys() == STRENGTH.keys():
        of = f", by {next(iter(feature.on.values())).key}" if next(iter(feature.on.values())).key else ""
        return f"strength of every event below{of}; starts: media_started, room_entered"
    alike: dict[str, list[str]] = {}
    for tag, take in feature.on.items():
        alike.setdefault(_take(feature, take), []).append(tag)
    found = "; ".join(f"{said} of {', '.join(tags)}" for said, tags in alike.items())
    return f"{found}; the {feature.by} is meant" if feature.by else found


def _take(feature: Feature, take: Take) -> str:
    """One contribution in words."""
    said = f"{take.key} " if take.key else ""
    match feature.aggregate:
        case Last():
            said = f"{take.const!r}" if take.const is not None else take.value
        case Present():
            said += "comes" if take.weight > 0 else "goes"
        case Recent() | Sessions():
            said = said or "sign"
        case Ratio() | Affinity():
            said += " ".join([*(["start"] if take.den else []), *([f"{take.weight:+g}"] if take.weight else [])])
        case _:
            said += take.weight_field or f"{take.weight:+g}"
    when = f" where {take.when[0]} is {take.when[1]}" if take.when else ""
    return said.strip() + when


def _default(value: object) -> str:
    return "none" if value is None else "empty" if value in ((), {}, "") else str(value)


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines)) + "\n"


def markdown() -> str:
    """The whole page docs/features.md."""
    head = ("feature", "computed as", "window", "unit", "default", "stores", "owner", "kept", "what it says")
    said = [(f"{one.entity.value}.{one.name}", said_by(one)) for one in FEATURES]
    strengths = [(tag, f"{size:+g}") for tag, size in STRENGTH.items()]
    return "\n".join(
        [
            _HEADING,
            _table(head, rows()) + _SAID_BY,
            _table(("feature", "said by"), said) + _STRENGTHS,
            _table(("event", "strength"), strengths),
        ]
    )
