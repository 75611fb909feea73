"""The definitions compiled into native Spark columns: what an event contributes, partial states, and values as of a moment.

The columns read rows of features/offline_events.py: `type`, `at` (epoch seconds), `by` (which id the row's entity was found
by) and event fields by name; those that end a window also read `now` (epoch seconds). They mean what features/state.py,
features/aggregates.py and features/words.py mean; tests hold them to it, and both to a third reading of the definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from events.tables import SCHEMAS
from features.aggregates import SEPARATOR, Last, Present, Ratio, Recent, Sessions, Sum
from features.definitions import BY_ENTITY, DAY, FEATURES, Entity, Feature, Take
from features.errors import FeaturesError
from features.words import Affinity, Counts, Top

if TYPE_CHECKING:
    from pyspark.sql import Column

# Aggregates folded row by row into one value, and those that fold by key first.
SINGLE = (Sum, Ratio, Last)
KEYED = (Recent, Top, Affinity, Counts, Present)
ABOUT_WORDS = (Top, Affinity)
# Event fields that are numbers here: times are epoch seconds.
_NUMBERS = {
    field.name for schema in SCHEMAS.values() for field in schema if str(field.type).startswith(("double", "timestamp"))
}


class NotCompiled(FeaturesError):
    """A feature asks for a Spark column, but its aggregate has none."""


def spark_features(entity: Entity) -> tuple[Feature, ...]:
    """The entity's features that its daily table has, in definition order."""
    return tuple(feature for feature in BY_ENTITY[entity] if feature.spark)


def kind(feature: Feature) -> str:
    """How a daily column is computed: `running` or `window` for one number or value, `keyed` or `keyed_window` for lists."""
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
                f"feature {feature.name!r} has spark=True, but {type(other).__name__} has no daily column"
            )


def of_kind(entity: Entity, *kinds: str) -> tuple[Feature, ...]:
    """The entity's daily features computed in one of those ways."""
    return tuple(feature for feature in spark_features(entity) if kind(feature) in kinds)


def event_types(features: Iterable[Feature]) -> list[str]:
    """Every event type that contributes to one of the features."""
    return sorted({tag for feature in features for tag in feature.on})


def fields_read() -> set[str]:
    """Every path that some column reads: event fields, and what features/offline_events.py derives of them."""
    takes = [take for feature in FEATURES for take in feature.on.values()]
    paths = {path for take in takes for path in (take.key, take.value, take.weight_field) if path}
    return paths | {take.when[0] for take in takes if take.when}


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
    from pyspark.sql import functions as F

    return _by_type(feature, lambda take: F.col(take.key))


def held(feature: Feature) -> Column:
    """(at, text, value) of a value the event sets: the largest is the one that holds; null where nothing is set."""
    from pyspark.sql import functions as F

    value = _by_type(feature, lambda take: _value(take.value) if take.value else F.lit(take.const))
    text = F.when(value.isNotNull(), _text(feature, value))
    return F.when(value.isNotNull(), F.struct(F.col("at"), text.alias("text"), value.alias("value")))


def _by_type(feature: Feature, what: Any) -> Column:
    """CASE over the event types, one branch for all types that contribute alike."""
    from pyspark.sql import functions as F

    out = F.lit(None)
    for take, tags in _alike(feature.on).items():
        says = F.col("type").isin(*tags)
        if take.when:
            says = says & (F.col(take.when[0]) == str(take.when[1]))
        out = F.when(says, what(take)).otherwise(out)
    if any(one.by for one in BY_ENTITY[feature.entity]):  # else every row was found by the usual id
        return F.when(F.col("by") == feature.by, out)
    return out


def _alike(on: Mapping[str, Take]) -> dict[Take, list[str]]:
    out: dict[Take, list[str]] = {}
    for tag, take in on.items():
        out.setdefault(take, []).append(tag)
    return out


def _value(path: str) -> Column:
    """An event field, or the event's time."""
    from pyspark.sql import functions as F

    return F.col("at" if path == "event_at" else path)


def _text(feature: Feature, value: Column) -> Column:
    """The value as text, as features.aggregates.tie_text: what decides between two values of the same instant."""
    from pyspark.sql import functions as F

    if isinstance(feature.default, tuple):
        return F.array_join(value, SEPARATOR)
    if not _is_number(feature):
        return value.cast("string")
    # Java writes 1.6E9 where Python writes 1600000000.0
    plain = F.regexp_replace(value.cast("decimal(38,18)").cast("string"), "(\\.[0-9]+?)0+$", "$1")
    return F.when(value.cast("double") >= 1e7, plain).otherwise(value.cast("string"))


def _is_number(feature: Feature) -> bool:
    paths = {take.value for take in feature.on.values() if take.value}
    consts = [take.const for take in feature.on.values() if take.const is not None]
    return any(path in _NUMBERS for path in paths) or any(isinstance(const, float) for const in consts)


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
        case Ratio():
            return _ratio(feature, F.sum(f"{name}__num"), F.sum(f"{name}__den"))
        case Sum():
            return F.sum(f"{name}__num").alias(name)
        case _:
            return F.max(f"{name}__held").getField("value").alias(name)


def _ratio(feature: Feature, num: Column, below: Column) -> Column:
    """Null without any contribution, and where the denominator is zero."""
    from pyspark.sql import functions as F

    prior_num, prior_den = feature.aggregate.prior  # type: ignore[attr-defined]
    return F.when(below + prior_den > 0, (num + prior_num) / (below + prior_den)).alias(feature.name)


# --- rows that carry `now`, the epoch second of the moment asked for ----------------------------------------------------


def single(feature: Feature) -> Column:
    """Aggregate column over all of an entity's events up to `now`: the value of a sum, a ratio or a last value."""
    from pyspark.sql import functions as F

    match feature.aggregate:
        case Sum():
            return F.sum(F.when(in_window(feature), weight(feature))).alias(feature.name)
        case Ratio():
            return _ratio(feature, F.sum(weight(feature)), F.sum(den(feature)))
        case _:
            return F.max(held(feature)).getField("value").alias(feature.name)


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


def inside(features: Sequence[Feature]) -> Column:
    """Whether a keyed row lies in its own feature's window."""
    return _of_feature(features, in_window, otherwise=False)


# --- keyed rows: `feature`, `key` and what was added to the key ----------------------------------------------------------


def adds(features: Sequence[Feature]) -> Column:
    """Array of (feature, key, weight, den): what an event adds to each keyed feature; a null key adds nothing."""
    from pyspark.sql import functions as F

    return F.array(*(
        F.struct(
            F.lit(one.name).alias("feature"), key(one).alias("key"), weight(one).alias("weight"), den(one).alias("den")
        )
        for one in features
    ))  # fmt: skip


def totals() -> list[Column]:
    """Aggregate columns over the rows of one key: newest times, as present and as gone too, and sums."""
    from pyspark.sql import functions as F

    here = F.col("weight") > 0
    return [
        F.max("at").alias("at"),
        F.max(F.when(here, F.col("at"))).alias("here_at"),
        F.max(F.when(~here, F.col("at"))).alias("gone_at"),
        F.sum("weight").alias("weight"),
        F.sum("den").alias("den"),
    ]


def totals_of_totals() -> list[Column]:
    """Aggregate columns over totals: the totals of several keys that mean the same."""
    from pyspark.sql import functions as F

    newest = [F.max(name).alias(name) for name in ("at", "here_at", "gone_at")]
    return [*newest, F.sum("weight").alias("weight"), F.sum("den").alias("den")]


def place_of_key(features: Sequence[Feature]) -> Column:
    """By what the keys of a bounded feature are kept, smallest first: newest, or the sample's fixed random order."""
    from pyspark.sql import functions as F

    return _of_feature(
        features, lambda one: -F.col("at") if isinstance(one.aggregate, Recent) else F.crc32("key").cast("double")
    )


def keys_kept(features: Sequence[Feature]) -> Column:
    """How many keys a feature keeps; null where it keeps all."""
    from pyspark.sql import functions as F

    bounded = (Recent, Affinity, Counts)
    return _of_feature(features, lambda one: F.lit(one.aggregate.size if isinstance(one.aggregate, bounded) else None))


def about_words(features: Sequence[Feature]) -> list[str]:
    """The names of those that read their keys through words."""
    return [one.name for one in features if isinstance(one.aggregate, ABOUT_WORDS)]


def keys_meant(features: Sequence[Feature]) -> Column:
    """Array of what a key stands for in its feature: itself, or its words where the feature is about words."""
    from pyspark.sql import functions as F

    about = [one for one in features if isinstance(one.aggregate, ABOUT_WORDS)]
    words = _of_feature(about, lambda one: F.col(one.aggregate.word))
    return F.when(F.col("feature").isin(*about_words(about)), words).otherwise(F.array("key"))


def collected(feature: Feature) -> Column:
    """Aggregate column over an entity's totals by key (by word, where it is about words): the value of a keyed feature."""
    from pyspark.sql import functions as F

    mine, name = F.col("feature") == feature.name, feature.name
    match feature.aggregate:
        case Recent() | Top():
            first = F.col("weight") if isinstance(feature.aggregate, Top) else F.col("at")
            pairs = F.collect_list(F.when(mine, F.struct((-first).alias("rank"), F.col("key"))))
            ranked = F.slice(F.array_sort(pairs), 1, feature.aggregate.size)
            return F.when(F.size(ranked) > 0, ranked.getField("key")).alias(name)
        case Affinity(prior=(num, below)):
            ratio = (F.col("weight") + num) / (F.col("den") + below)
            return F.map_from_entries(F.collect_list(F.when(mine, F.struct("key", ratio)))).alias(name)
        case Counts():
            return F.map_from_entries(F.collect_list(F.when(mine, F.struct("key", "weight")))).alias(name)
        case Present(lease_s=lease_s):
            stays = F.col("gone_at").isNull() | (F.col("here_at") > F.col("gone_at"))
            holds = stays & (F.col("here_at") > F.col("now") - lease_s)
            return F.sum(F.when(mine & holds, 1.0)).alias(name)
        case other:
            raise NotCompiled(f"feature {name!r} is no keyed feature: its aggregate is {type(other).__name__}")


def _of_feature(features: Sequence[Feature], what: Any, *, otherwise: Any = None) -> Column:
    """CASE over the column `feature`."""
    from pyspark.sql import functions as F

    out = F.lit(otherwise)
    for feature in features:
        out = F.when(F.col("feature") == feature.name, what(feature)).otherwise(out)
    return out


# --- sessions: rows of one entity in order ------------------------------------------------------------------------------


def is_sign(feature: Feature) -> Column:
    """Whether an event is a sign that the session goes on."""
    return weight(feature).isNotNull()


def begins(feature: Feature, before: Column) -> Column:
    """1 where a session begins: `before` is the time of the sign before, null for the first."""
    from pyspark.sql import functions as F

    gap_s = _sessions(feature).gap_s
    return F.when(before.isNull() | (F.col("at") > before + gap_s), 1).otherwise(0)


def mean_length(feature: Feature) -> Column:
    """Aggregate column over an entity's sessions (`first`, `last`): mean seconds of those in the window."""
    from pyspark.sql import functions as F

    counts = F.col("last") >= F.col("now") - _sessions(feature).window_s
    return F.avg(F.when(counts, F.col("last") - F.col("first"))).alias(feature.name)


def _sessions(feature: Feature) -> Sessions:
    if isinstance(feature.aggregate, Sessions):
        return feature.aggregate
    raise NotCompiled(f"feature {feature.name!r} has no sessions: its aggregate is {type(feature.aggregate).__name__}")


def with_default(feature: Feature) -> Column:
    """The feature's column in a table, the definition's default where it is null."""
    from pyspark.sql import functions as F

    found = F.col(feature.name)
    match feature.default:
        case None:
            return found
        case tuple(words):
            default = F.array([F.lit(word) for word in words]).cast("array<string>")
        case dict():
            default = F.create_map().cast("map<string,double>")
        case plain:
            default = F.lit(plain)
    return F.coalesce(found, default).alias(feature.name)
