"""Is what the ranker saw what training would compute? Logged feature values against recomputed ones, by feature and by age.

A bounded sample of the newest impressions that carry a snapshot is computed again from the offline tables, strictly before
each impression. Values must be equal once everything that touches their entity is older than a moment (the store lags a
little behind the log); the distributions must agree whatever the age. What cannot be said is undecided, which is no pass.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow.compute as pc
from msgspec import Struct

from events.schema import FeatureValue
from features.history import Ask, Report, hydrate
from features.offline_tables import distinct, open_table
from monitoring.ages import Ages, ages_before
from monitoring.dials import POSITIVE, SOME, Allowed, check_dials
from monitoring.drift import THRESHOLD, drift_report
from registry.verdict import Outcome

Snapshot = Mapping[str, FeatureValue]
_READ = msgspec.json.Decoder(dict[str, FeatureValue])
SERVED = ("event_id", "event_at", "user_id", "item_id", "surface", "position", "creator_id", "features")
# Upper bounds of the age buckets in seconds; a value that nothing touched yet is in the last one.
AGES = {"under 1 s": 1.0, "1 to 10 s": 10.0, "10 to 60 s": 60.0, "1 to 10 min": 600.0, "10 to 60 min": 3_600.0,
        "1 to 24 h": 86_400.0, "older or never": math.inf}  # fmt: skip
# Known only once the page is arranged: the ranker saw another one by design.
NOT_COMPARED = frozenset({"context.position"})
ENTITIES = {"user": ("user",), "item": ("item",), "creator": ("creator",), "cross": ("user", "item", "creator")}


_ALLOWED = {
    "sample": SOME, "min_rows": SOME, "settled_s": Allowed(0), "min_equal": Allowed(0, 1, low_counts=False),
    "max_distance": POSITIVE, "tolerance": Allowed(0, 0.1),
}  # fmt: skip


@dataclass(frozen=True)
class SkewConfig:
    """How much is compared and what is too much; BadPlan for a dial that would call anything equal."""

    sample: int = 1_000  # impressions; recomputing replays the history, whatever their number
    min_rows: int = 100  # below it nothing is decided
    settled_s: float = 60.0  # an entity touched more recently may lawfully have been seen a moment older
    min_equal: float = 0.99  # share of settled values that must be equal
    max_distance: float = THRESHOLD  # PSI of numbers, Jensen-Shannon distance of words
    tolerance: float = 1e-6  # of numbers, relative, and absolute below 1

    def __post_init__(self) -> None:
        check_dials("a skew report", self, _ALLOWED)


DEFAULT = SkewConfig()


class Served(NamedTuple):
    """One impression: when and about whom, and the snapshot logged with it."""

    ask: Ask
    creator_id: str
    features: Snapshot


class AgeRate(Struct, frozen=True):
    """Values of one age bucket: how many were compared, how many were equal."""

    age: str
    rows: int
    equal: int


class FeatureSkew(Struct, frozen=True, kw_only=True):
    """One feature: outcome and its reason, equality by age, distances of the two distributions (None: not computable).

    `missing` are snapshots that lack it on one side. `equal_rate` is over settled rows; `low` and `high` are its Wilson 95 %
    interval.
    """

    name: str
    outcome: Outcome
    reason: str
    rows: int
    missing: int
    settled: int
    equal_rate: float | None
    low: float | None
    high: float | None
    ages: tuple[AgeRate, ...]
    distance: float | None
    ks_p: float | None


class SkewRecord(Struct, frozen=True, kw_only=True):
    """All features, the worst first; it passes only when every one of them does."""

    outcome: Outcome
    sentence: str
    sampled: int
    features: tuple[FeatureSkew, ...]

    @property
    def skewed(self) -> tuple[str, ...]:
        """Names of the features that fail."""
        return tuple(one.name for one in self.features if one.outcome is Outcome.FAIL)


def measure_skew(lake: Path, out: Path, *, config: SkewConfig = DEFAULT, report: Report | None = None) -> SkewRecord:
    """Compare a sample of the newest impressions; distributions.html goes below `out`."""
    served = sample_served(lake, size=config.sample)
    asks = [one.ask for one in served]
    recomputed = dict(hydrate(lake, asks, report=report))
    ages = ages_before(lake, [(one.ask, one.creator_id) for one in served])
    logged = {one.ask.event_id: one.features for one in served}
    return compare(logged, recomputed, ages=ages, out=out, config=config)


def sample_served(lake: Path, *, size: int) -> list[Served]:
    """At most `size` impressions with a logged snapshot, of the newest dates that have enough; the same at every call."""
    table = open_table(lake, "impressions")
    out: list[Served] = []
    for day in sorted(table.rows, reverse=True) if table is not None else []:
        if table is None or len(out) == size:
            break
        ids = pc.unique(table.read([day], ["event_id"], where=pc.field("features").is_valid())["event_id"]).to_pylist()
        chosen = sorted(ids, key=lambda one: (zlib.crc32(one.encode()), one))[: size - len(out)]
        if chosen:
            rows = distinct(table.read([day], SERVED, where=pc.field("event_id").isin(chosen)))
            out += map(_served, rows.to_pylist())
    return out


def _served(row: Mapping[str, Any]) -> Served:
    ask = Ask(
        row["event_id"], row["event_at"].timestamp(), row["user_id"], row["item_id"], row["surface"], row["position"]
    )
    return Served(ask, row["creator_id"], _READ.decode(row["features"]))


def compare(
    logged: Mapping[str, Snapshot], recomputed: Mapping[str, Snapshot], *, ages: Ages, out: Path,
    config: SkewConfig = DEFAULT,
) -> SkewRecord:  # fmt: skip
    """Judge every feature over the impressions that both sides have; distributions.html goes below `out`."""
    ids = sorted(logged.keys() & recomputed.keys())
    names = sorted({name for side in (logged, recomputed) for one in ids for name in side[one]} - NOT_COMPARED)
    distances: dict[str, tuple[float | None, float | None]] = {}
    if len(ids) >= config.min_rows:
        page = out / "distributions.html"
        drift = drift_report([recomputed[one] for one in ids], [logged[one] for one in ids], page)
        distances = {one.name: (one.score, one.ks_p) for one in drift.features}
    features = [
        _judged(name, logged, recomputed, ids=ids, ages=ages, distance=distances.get(name, (None, None)), config=config)
        for name in names
    ]
    features.sort(
        key=lambda one: (_WORST.index(one.outcome), 1.0 if one.equal_rate is None else one.equal_rate, one.name)
    )
    outcome, sentence = _overall(features, sampled=len(ids), config=config)
    return SkewRecord(outcome=outcome, sentence=sentence, sampled=len(ids), features=tuple(features))


_WORST = (Outcome.FAIL, Outcome.UNDECIDED, Outcome.PASS)


def _judged(
    name: str, logged: Mapping[str, Snapshot], recomputed: Mapping[str, Snapshot], *, ids: Sequence[str], ages: Ages,
    distance: tuple[float | None, float | None], config: SkewConfig,
) -> FeatureSkew:  # fmt: skip
    both = [one for one in ids if name in logged[one] and name in recomputed[one]]
    told = [(_age(name, one, ages), same(logged[one][name], recomputed[one][name], config.tolerance)) for one in both]
    settled = [equal for age, equal in told if age >= config.settled_s]
    rate = sum(settled) / len(settled) if settled else None
    low, high = wilson(sum(settled), len(settled))
    missing = len(ids) - len(both)
    outcome, reason = _outcome(rate, high, settled=len(settled), rows=len(both), missing=missing, distance=distance[0],
                               config=config)  # fmt: skip
    return FeatureSkew(
        name=name, outcome=outcome, reason=reason, rows=len(both), missing=missing, settled=len(settled),
        equal_rate=rate, low=low, high=high, ages=_by_age(told), distance=distance[0], ks_p=distance[1],
    )  # fmt: skip


def _outcome(
    rate: float | None, high: float | None, *, settled: int, rows: int, missing: int, distance: float | None,
    config: SkewConfig,
) -> tuple[Outcome, str]:  # fmt: skip
    """What the numbers of one feature say."""
    if distance is not None and distance >= config.max_distance:
        return Outcome.FAIL, f"the distributions are {distance:.3g} apart, {config.max_distance:g} is too much"
    if high is not None and settled >= config.min_rows and high < config.min_equal:
        return Outcome.FAIL, f"{rate:.2%} of the settled values are equal, {config.min_equal:.2%} are needed"
    if missing:
        return Outcome.UNDECIDED, f"{missing} snapshots lack it on one side"
    if rate is not None and settled >= config.min_rows:
        enough = rate >= config.min_equal
        said = f"{rate:.2%} of {settled} settled values are equal"
        return (Outcome.PASS, said) if enough else (Outcome.UNDECIDED, f"{said}: too few rows to tell")
    if distance is not None and rows >= config.min_rows:
        return Outcome.PASS, f"too few settled values; the distributions are {distance:.3g} apart"
    return Outcome.UNDECIDED, f"{settled} settled values, {config.min_rows} are needed"


def _overall(features: Sequence[FeatureSkew], *, sampled: int, config: SkewConfig) -> tuple[Outcome, str]:
    if sampled < config.min_rows:
        return Outcome.UNDECIDED, f"{sampled} impressions carry a snapshot, {config.min_rows} are needed"
    for outcome in (Outcome.FAIL, Outcome.UNDECIDED):
        found = [one for one in features if one.outcome is outcome]
        if found:
            more = f", and {len(found) - 3} more" if len(found) > 3 else ""
            return outcome, "; ".join(f"{one.name}: {one.reason}" for one in found[:3]) + more
    return Outcome.PASS, f"{len(features)} features agree on {sampled} impressions"


def same(logged: FeatureValue, recomputed: FeatureValue, tolerance: float) -> bool:
    """Whether two values are one: numbers within the tolerance, everything else exactly; None only equals None."""
    if isinstance(logged, dict) and isinstance(recomputed, dict):
        return logged.keys() == recomputed.keys() and all(same(logged[k], recomputed[k], tolerance) for k in logged)
    if isinstance(logged, (int, float)) and isinstance(recomputed, (int, float)):
        return math.isclose(logged, recomputed, rel_tol=tolerance, abs_tol=tolerance)
    return type(logged) is type(recomputed) and logged == recomputed


def wilson(hits: int, n: int) -> tuple[float | None, float | None]:
    """Wilson's 95 % interval of a share (JASA 1927); None of nothing."""
    if not n:
        return None, None
    z, p = 1.959964, hits / n
    middle, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - width) / (1 + z * z / n), (middle + width) / (1 + z * z / n)


def _age(name: str, event_id: str, ages: Ages) -> float:
    """Seconds since anything touched what the feature describes; infinite for what nothing touches."""
    known = ages.get(event_id, {})
    return min((known.get(entity, math.inf) for entity in ENTITIES.get(name.split(".")[0], ())), default=math.inf)


def _by_age(told: Sequence[tuple[float, bool]]) -> tuple[AgeRate, ...]:
    out, below = [], 0.0
    for age, bound in AGES.items():
        here = [equal for seconds, equal in told if below <= seconds < bound or (seconds == bound == math.inf)]
        out.append(AgeRate(age, len(here), sum(here)))
        below = bound
    return tuple(out)
