"""Logged against recomputed: a planted skew is named, a clean log passes, and what is missing is undecided."""

import copy
import json
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from events import schema as s
from events.log import Record
from events.tables import to_row
from events.topics import topic_of
from features.history import Ask, hydrate
from features.tables import DeltaTables
from monitoring.ages import ages_before
from monitoring.skew import SkewConfig, SkewRecord, compare, measure_skew, same, sample_served, wilson
from monitoring.skew_report import PAGE, RECORD, read_skew, report_skew
from registry.verdict import Outcome

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
SMALL = SkewConfig(min_rows=50)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def store(lake: Path, events: list[s.Event]) -> None:
    tables, rows = DeltaTables(lake), {}
    for offset, event in enumerate(events):
        name = topic_of(event).name
        row = to_row(event, Record(name, 0, offset, None, b""), ingested_at=event.event_at, late=False)
        rows.setdefault(name, []).append(row)
    for name, found in rows.items():
        tables.progress(name, partitions=[0])
        tables.append(name, found, offsets={0: len(events)})


def evening() -> list[s.Event]:
    """Twenty viewers, ten items, a play every minute."""
    rng = random.Random(3)
    out: list[s.Event] = [
        s.MediaPublished(
            event_id=f"m{n}", event_at=at(-60), item_id=f"i{n}", creator_id=f"c{n % 3}", content_type="VIDEO",
            category=rng.choice(["jazz", "rock"]), duration_s=100.0 * n,
        )
        for n in range(10)
    ]  # fmt: skip
    for n in range(150):
        who = {"user_id": f"u{rng.randrange(20)}", "item_id": f"i{rng.randrange(10)}"}
        out.append(s.MediaStarted(event_id=f"s{n}", event_at=at(60 * n), **who))
    return out


def shown(n: int, *, seconds: float, features: Mapping[str, Any] | None) -> s.Impression:
    return s.Impression(
        event_id=f"q{n}:0", event_at=at(seconds), request_id=f"q{n}", user_id=f"u{n % 20}", item_id=f"i{n % 10}", position=0,
        content_type=s.ContentType.VIDEO, creator_id=f"c{n % 10 % 3}", features=None if features is None else dict(features),
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[s.Event], list[s.Impression]]:
    """An evening and 120 impressions after it, with the features of their moment."""
    lake, events = tmp_path_factory.mktemp("evening"), evening()
    store(lake, events)
    times = {n: 9_100.0 + 10 * n for n in range(120)}
    asks = [Ask(f"q{n}:0", at(t).timestamp(), f"u{n % 20}", f"i{n % 10}", "home", 0) for n, t in times.items()]
    values = dict(hydrate(lake, asks))
    return events, [shown(n, seconds=t, features=values[f"q{n}:0"]) for n, t in times.items()]


def spoilt(impressions: list[s.Impression], feature: str, change: Any) -> list[s.Impression]:
    out = []
    for one in impressions:
        values = copy.deepcopy(one.features or {})
        change(values, feature)
        raw = {name: getattr(one, name) for name in one.__struct_fields__}
        out.append(s.Impression(**{**raw, "features": values}))
    return out


def scale(values: dict[str, Any], feature: str) -> None:
    values[feature] = values[feature] * 10 + 1


def measured(tmp_path: Path, events: list[s.Event], impressions: list[s.Impression]) -> SkewRecord:
    store(tmp_path / "lake", [*events, *impressions])
    return report_skew(tmp_path / "lake", tmp_path / "out", config=SMALL)


def test_a_log_that_agrees_with_history_passes(tmp_path: Path, served: Any) -> None:
    record = measured(tmp_path, *served)
    assert (record.outcome, record.skewed, record.sampled) == (Outcome.PASS, (), 120)
    assert all(one.equal_rate == 1.0 and one.settled == 120 for one in record.features)
    assert {one.name.split(".")[0] for one in record.features} == {"user", "item", "creator", "cross", "context"}


@pytest.mark.parametrize("feature", ["item.plays", "cross.tag_affinity"])
def test_a_scaled_value_is_named_and_nothing_else(tmp_path: Path, served: Any, feature: str) -> None:
    events, impressions = served
    record = measured(tmp_path, events, spoilt(impressions, feature, scale))
    assert record.outcome is Outcome.FAIL
    assert record.skewed == (feature,) and record.sentence.startswith(f"{feature}: ")
    assert record.features[0].name == feature
    page = (tmp_path / "out" / PAGE).read_text()
    assert page.index(feature) < min(page.index(one.name) for one in record.features[1:])
    body = json.loads((tmp_path / "out" / RECORD).read_text())
    assert (body["outcome"], body["features"][0]["name"]) == ("fail", feature)
    assert read_skew(tmp_path / "out") == record
    assert (tmp_path / "out" / "distributions.html").stat().st_size > 100_000


def test_a_feature_that_was_not_logged_is_undecided(tmp_path: Path, served: Any) -> None:
    events, impressions = served
    record = measured(tmp_path, events, spoilt(impressions, "user.plays", lambda values, name: values.pop(name)))
    assert record.outcome is Outcome.UNDECIDED
    assert record.sentence == "user.plays: 120 snapshots lack it on one side"


def test_the_sample_is_of_the_newest_days_and_the_same_at_every_call(tmp_path: Path) -> None:
    day = 86_400.0
    days = [shown(n, seconds=day * (n // 10), features={"user.plays": 1.0}) for n in range(30)]
    store(tmp_path, list(days))
    first, again = (sample_served(tmp_path, size=15) for _ in range(2))
    assert [one.ask.event_id for one in first] == [one.ask.event_id for one in again]
    assert sorted({one.ask.at for one in first}) == [at(day).timestamp(), at(2 * day).timestamp()]
    assert len({one.ask.event_id for one in first}) == 15


def test_too_few_impressions_are_undecided(tmp_path: Path, served: Any) -> None:
    events, impressions = served
    record = measured(tmp_path, events, impressions[:49])
    assert record.outcome is Outcome.UNDECIDED
    assert record.sentence == "49 impressions carry a snapshot, 50 are needed"


@pytest.mark.parametrize("features", [None, "no impressions"])
def test_nothing_logged_is_undecided(tmp_path: Path, served: Any, features: Any) -> None:
    bare = [] if features else [shown(n, seconds=n, features=None) for n in range(60)]
    record = measured(tmp_path, served[0], bare)
    assert (record.outcome, record.sampled, record.features) == (Outcome.UNDECIDED, 0, ())


def test_a_value_that_may_lawfully_lag_is_judged_by_its_distribution(tmp_path: Path) -> None:
    ids = [f"q{n}" for n in range(200)]
    now = {one: {"item.plays": float(n % 40), "item.language": "ko"} for n, one in enumerate(ids)}
    moment_ago = {one: {"item.plays": float(n % 40 + 1), "item.language": "ko"} for n, one in enumerate(ids)}
    for age, outcome in ((5.0, Outcome.PASS), (60.0, Outcome.FAIL)):
        ages = {one: {"item": age} for one in ids}
        record = compare(moment_ago, now, ages=ages, out=tmp_path, config=SkewConfig(max_distance=9.0, min_rows=200))
        assert {one.name: one.outcome for one in record.features}["item.plays"] is outcome


def test_ages_count_from_the_last_event_before_the_impression_that_names_the_entity(tmp_path: Path) -> None:
    play = {"user_id": "u0", "item_id": "i0"}
    store(tmp_path, [
        s.MediaPublished(event_id="m", event_at=at(0), item_id="i0", creator_id="c0", content_type="VIDEO", category="x"),
        s.MediaStarted(event_id="a", event_at=at(100), **play), s.MediaStarted(event_id="b", event_at=at(205), **play),
        shown(0, seconds=105.0, features={"user.plays": 1.0, "item.plays": 1.0, "creator.plays": 0.0, "cross.follows": 0.0}),
    ])  # fmt: skip
    record = measure_skew(tmp_path, tmp_path / "out")
    buckets = {one.name: [age.age for age in one.ages if age.rows] for one in record.features}
    assert buckets["user.plays"] == buckets["item.plays"] == buckets["cross.follows"] == ["1 to 10 s"]
    assert buckets["creator.plays"] == ["older or never"]


def test_an_event_that_was_still_on_its_way_counts_from_when_it_came(tmp_path: Path) -> None:
    publish = s.MediaPublished(
        event_id="m", event_at=at(0), item_id="i0", creator_id="c0", content_type="VIDEO", category="x"
    )
    delayed = s.MediaStarted(event_id="a", event_at=at(100), user_id="u0", item_id="i0")
    other = s.MediaStarted(event_id="b", event_at=at(5_000), user_id="u9", item_id="i9")
    asks = [Ask(f"q{t}", at(t).timestamp(), "u0", "i0", "home", 0) for t in (4_000, 5_400)]
    store(tmp_path, [publish, other, delayed])  # the log had reached 5,000 s when the play of 100 s came
    ages = ages_before(tmp_path, [(ask, "c0") for ask in asks])
    assert ages == {"q4000": {"user": 0.0, "item": 0.0}, "q5400": {"user": 400.0, "item": 400.0}}


@pytest.mark.parametrize(
    ("logged", "recomputed", "equal"),
    [
        (1.0, 1.0 + 1e-7, True), (1.0, 1.0 + 1e-5, False), (1e9, 1e9 + 1, True), (0.0, 1e-7, True), (None, None, True),
        (None, 0.0, False), ("a", "a", True), (["a", "b"], ["b", "a"], False), ({"a": 1.0}, {"a": 1.0 + 1e-7}, True),
        ({"a": 1.0}, {"b": 1.0}, False), ("1", 1.0, False),
    ],
)  # fmt: skip
def test_numbers_are_equal_within_a_millionth_and_everything_else_exactly(
    logged: Any, recomputed: Any, equal: bool
) -> None:
    assert same(logged, recomputed, 1e-6) is equal


def test_wilsons_interval_is_the_textbooks() -> None:
    assert wilson(0, 0) == (None, None)
    assert wilson(8, 10) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
