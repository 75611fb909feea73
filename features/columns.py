"""The definitions compiled into native Spark columns: what each event contributes, partial states, values as of a day's end.

The columns read the event frame of features/offline_events.py: `type`, `at` (epoch seconds), event fields by name, and item
attributes as of the event as `item_<name>`. They mean what features/state.py and features/aggregates.py mean; a test holds
them to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from features.aggregates import Last, Ratio, Recent, Sum, Top
from features.definitions import BY_ENTITY, DAY, Entity, Feature, Take
from features.errors import FeaturesError

if TYPE_CHECKING:
    from pyspark.sql import Column


class NotCompiled(FeaturesError):
    """A feature asks for a Spark column, but its aggregate has none."""


def spark_features(entity: Entity) -> tuple[Feature, ...]:
    """The entity's features that have a column, in definition order."""
    return tuple(feature for feature in BY_ENTITY[entity] if feature.spark)


def kind(feature: Feature) -> str:
    """How a feature is computed: `running` or `window` for one number or value, `keyed` or `keyed_window` for lists."""
    match feature.aggregate:
        case Sum(window_s=None) | Ratio() | Last():
            return "running"
        case Sum():
            return "window"
        case Recent(window_s=None):
            return "keyed"
        case Recent() | Top():
            return "keyed_window"
        case other:
            raise NotCompiled(
                f"feature {feature.name!r} has spark=True, but {type(other).__name__} has no Spark column"
            )


def of_kind(entity: Entity, *kinds: str) -> tuple[Feature, ...]:
    """The entity's features computed in one of those ways."""
    return tuple(feature for feature in spark_features(entity) if kind(feature) in kinds)


def event_types(features: Iterable[Feature]) -> list[str]:
    """Every event type that contributes to one of the features."""
    return sorted({tag for feature in features for tag in feature.on})


def fields_read() -> set[str]:
    """Event fields and `item.<name>` attributes that some column reads."""
    takes = [take for entity in Entity for feature in spark_features(entity) for take in feature.on.values()]
    return {path for take in takes for path in (take.key, take.value, take.weight_field) if path}


# --- what one event contributes ---------------------------------------------------------------------------------------


def weight(feature: Feature) -> Column:
    """The contribution's weight as a double; null where the event says nothing to the feature."""
    from pyspark.sql import functions as F

    return _by_type(feature, lambda take: F.col(take.weight_field) if take.weight_field else F.lit(float(take.weight)))


def den(feature: Feature) -> Column:
    """The contribution's denominator as a double; null where the event says nothing to the feature."""
    from pyspark.sql import functions as F

    return _by_type(feature, lambda take: F.lit(float(take.den)))


def key(feature: Feature) -> Column:
    """The id or word that the event adds; null where there is none."""
    return _by_type(feature, lambda take: _path(take.key))


def held(feature: Feature) -> Column:
    """(at, text, value) of a value the event sets: the largest is the one that holds; null where nothing is set."""
    from pyspark.sql import functions as F

    value = _by_type(feature, lambda take: _path(take.value) if take.value else F.lit(take.const))
    text = F.when(value.isNotNull(), _text(feature, value))
    return F.when(value.isNotNull(), F.struct(F.col("at"), text.alias("text"), value.alias("value")))


def _by_type(feature: Feature, what: Any) -> Column:
    """CASE over the event types, one branch for all types that contribute alike."""
    from pyspark.sql import functions as F

    out = F.lit(None)
    for take, tags in _alike(feature.on).items():
        out = F.when(F.col("type").isin(*tags), what(take)).otherwise(out)
    return out


def _alike(on: Mapping[str, Take]) -> dict[Take, list[str]]:
    out: dict[Take, list[str]] = {}
    for tag, take in on.items():
        out.setdefault(take, []).append(tag)
    return out


def _path(path: str) -> Column:
    """An event field, an attribute of its item, or the event's time."""
    from pyspark.sql import functions as F

    if path == "event_at":
        return F.col("at")
    return F.col(f"item_{path[5:]}" if path.startswith("item.") else path)


def _text(feature: Feature, value: Column) -> Column:
    """The value as text, as features.aggregates.tie_text: what decides between two values of the same instant."""
    from pyspark.sql import functions as F

    if isinstance(feature.default, tuple):
        return F.array_join(value, ",")
    return value.cast("string")


# --- running values: a day's partial states, and their sum up to a day -------------------------------------------------


def partials(feature: Feature) -> list[Column]:
    """Aggregate columns over one entity's events of one day: the state they leave."""
    from pyspark.sql import functions as F

    match feature.aggregate:
        case Sum():
            return [F.sum(weight(feature)).alias(f"{feature.name}__num")]
        case Ratio():
            return [
                F.sum(weight(feature)).alias(f"{feature.name}__num"),
                F.sum(den(feature)).alias(f"{feature.name}__den"),
            ]
        case _:
            return [F.max(held(feature)).alias(f"{feature.name}__held")]


def finished(feature: Feature) -> Column:
    """Aggregate column over one entity's partial states: the value, null where nothing was seen."""
    from pyspark.sql import functions as F

    name = feature.name
    match feature.aggregate:
        case Ratio(prior=(prior_num, prior_den)):
            below = F.sum(f"{name}__den") + prior_den
            return F.when(below > 0, (F.sum(f"{name}__num") + prior_num) / below).alias(name)
        case Sum():
            return F.sum(f"{name}__num").alias(name)
        case _:
            return F.max(f"{name}__held").getField("value").alias(name)


# --- windows: rows that carry `now`, the epoch second of a day's end ---------------------------------------------------


def days_reached(feature: Feature) -> int:
    """How many days after its own an event can still lie in the feature's window at a day's end."""
    bucket_s = getattr(feature.aggregate, "bucket_s", 0.0)
    return math.ceil(((feature.window_s or 0.0) + bucket_s) / DAY)


def in_window(feature: Feature) -> Column:
    """Whether an event at `at` counts as of `now`: the same buckets, or seconds, as the aggregate's."""
    from pyspark.sql import functions as F

    match feature.aggregate:
        case Sum(window_s=float(window_s), bucket_s=bucket_s) | Top(window_s=window_s, bucket_s=bucket_s):
            last, mine = F.floor(F.col("now") / bucket_s), F.floor(F.col("at") / bucket_s)
            return (mine > last - int(window_s / bucket_s)) & (mine <= last)
        case Recent(window_s=float(window_s)):
            return F.col("at") >= F.col("now") - window_s
        case _:
            return F.lit(True)


def windowed_sum(feature: Feature) -> Column:
    """Aggregate column over an entity's events near a day's end: the sum inside the window."""
    from pyspark.sql import functions as F

    return F.sum(F.when(in_window(feature), weight(feature))).alias(feature.name)


def listed(feature: Feature) -> Column:
    """Aggregate column over an entity's (feature, key, at, weight) totals: the keys in the aggregate's order."""
    from pyspark.sql import functions as F

    if not isinstance(feature.aggregate, (Top, Recent)):
        raise NotCompiled(f"feature {feature.name!r} is no list")
    first = F.col("weight") if isinstance(feature.aggregate, Top) else F.col("at")
    mine = F.when(F.col("feature") == feature.name, F.struct((-first).alias("rank"), F.col("key")))
    ranked = F.slice(F.array_sort(F.collect_list(mine)), 1, feature.aggregate.size)
    return F.when(F.size(ranked) > 0, ranked.getField("key")).alias(feature.name)


def with_default(feature: Feature) -> Column:
    """The feature's column in a table, the definition's default where it is null."""
    from pyspark.sql import functions as F

    found = F.col(feature.name)
    if feature.default is None:
        return found
    if isinstance(feature.default, tuple):
        empty = F.array([F.lit(word) for word in feature.default]).cast("array<string>")
        return F.coalesce(found, empty).alias(feature.name)
    return F.coalesce(found, F.lit(feature.default)).alias(feature.name)
