"""Both attributions over one story: what is held back, what is corrected later, and that disorder changes nothing."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from events import schema as s
from features.attribution import Attribution
from features.errors import BadRange, NoSamples
from features.labels import NAMES, OBJECTIVES, Objective
from features.samples import CORRECTED, TABLE, build_samples
from features.tables import DeltaTables
from features.training_input import read_corrected, read_samples
from tests.features.conftest import NOON, Store, at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY = NOON.date()
T0 = NOON.timestamp()
HOUR = 3_600.0
FIRST_TWO_MINUTES = {"click", "watch", "effective_watch"}


def shown(request: str, seconds: float = 0.0) -> s.Impression:
    return s.Impression(
        event_id=f"{request}:0", event_at=at(seconds / 60), request_id=request, user_id="u1", item_id="r1", position=0,
        content_type=s.ContentType.LIVE, creator_id="h1", features={"user.plays": 5.0},
    )  # fmt: skip


def did(kind: type[s.LiveEvent], request: str, minutes: float, **more: Any) -> s.LiveEvent:
    name = f"{kind.__name__}-{request}-{minutes}"
    return kind(
        event_id=name, event_at=at(minutes), user_id="u1", room_id="r1", streamer_id="h1", request_id=request, **more
    )


def clicked(request: str, minutes: float) -> s.FeedClicked:
    where = {"user_id": "u1", "item_id": "r1", "position": 0}
    return s.FeedClicked(event_id=f"click-{request}", event_at=at(minutes), request_id=request, **where)


STORY: list[s.Event] = [
    shown("quick"), shown("slow"), shown("none"),
    clicked("quick", 1), did(s.RoomEntered, "quick", 1.1), did(s.WatchHeartbeat, "quick", 1.9),
    did(s.WatchHeartbeat, "quick", 2.4), did(s.StreamerFollowed, "quick", 14.9), did(s.GiftSent, "quick", 20, amount=2.0),
    did(s.GiftSent, "quick", 25, amount=2.0), did(s.RoomShared, "quick", 25 * 60),
    clicked("slow", 1.5), did(s.RoomEntered, "slow", 1.6), did(s.RoomLeft, "slow", 3, watched_s=30.0),
    did(s.CommentPosted, "slow", 60),
]  # fmt: skip
# (request, kind, objective) -> (positive labels, seconds until it was known); masks are all for W, the objective for the rest
CORRECTED_STORY = {
    ("quick", "W", ""): ({"click", "watch", "effective_watch", "completion", "follow", "like"}, 900.0),
    ("quick", "DP", "gift"): ({"gift"}, 1_200.0),  # the first of two; shared after more than a day
    ("slow", "W", ""): ({"click", "completion"}, 900.0),
    ("slow", "DP", "watch"): ({"watch"}, 96.0),
    ("slow", "DP", "effective_watch"): ({"effective_watch"}, 180.0),  # no heartbeat came: the leave says 30 s
    ("slow", "DP", "interaction"): ({"interaction"}, 3_600.0),
    ("slow", "DP", "like"): ({"like"}, 3_600.0),
    ("none", "W", ""): (set(), 900.0),
}


def outage(events: Iterable[s.Event], store: Store) -> None:
    """What came in the first hour was stored an hour later, flagged late; then all of it was replayed."""
    told = list(events)
    lost = [one for one in told if one.event_at < at(60)]
    store([one for one in told if one not in lost])
    store(lost, late=True)
    store(told)


DISTURBED: dict[str, Callable[[list[s.Event], Store], None]] = {
    "as it happened": lambda events, store: store(events),
    "twice and in reverse": lambda events, store: store([one for one in reversed(events) for _ in range(2)]),
    "after an hour's outage, replayed": outage,
}


def rows_of(lake: Path) -> dict[tuple[str, str, str], tuple[set[str], float]]:
    """The corrected table by its key; a key that is there twice fails."""
    out: dict[tuple[str, str, str], tuple[set[str], float]] = {}
    for row in DeltaTables(lake).read(CORRECTED).to_pylist():
        key = (row["request_id"], row["kind"], row["objective"])
        assert key not in out
        masked = {name for name in NAMES if row[f"mask_{name}"]}
        assert masked == ({key[2]} if key[2] else set(NAMES))
        assert row["features"] == '{"user.plays":5.0}'
        out[key] = ({name for name in NAMES if row[name]}, row["elapsed_s"])
    return out


@pytest.mark.parametrize("how", DISTURBED)
def test_each_impression_gets_one_windowed_row_and_one_delta_a_late_objective_in_whatever_order_events_came(
    lake: Path, spark: "SparkSession", store_events: Store, how: str
) -> None:
    DISTURBED[how](STORY, store_events)
    report = build_samples(spark, lake, dates=[DAY], attribution=Attribution.CORRECTION)
    assert rows_of(lake) == CORRECTED_STORY
    assert (report.rows, report.delayed) == (8, 5)
    assert report.delayed_share == pytest.approx(5 / 13)


def test_a_second_build_changes_neither_rows_nor_figures(
    lake: Path, spark: "SparkSession", store_events: Store
) -> None:
    store_events(STORY)
    first, second = (build_samples(spark, lake, dates=[DAY], attribution=Attribution.CORRECTION) for _ in range(2))
    assert rows_of(lake) == CORRECTED_STORY
    assert first == second


def test_disorder_is_measured_along_each_log_partition(lake: Path, spark: "SparkSession", store_events: Store) -> None:
    store_events([shown("a"), clicked("a", 10), clicked("b", 4), clicked("c", 5), clicked("d", 11)])
    report = build_samples(spark, lake, dates=[DAY])
    assert report.out_of_order_rate == 0.5  # 6 and 5 min behind the newest that had come before them
    assert (report.out_of_order_p50_s, report.out_of_order_p99_s) == (300.0, 360.0)


def test_a_windowed_row_is_there_when_the_first_window_is_over_and_knows_only_what_is_decided(
    lake: Path, spark: "SparkSession", store_events: Store
) -> None:
    store_events([*STORY, shown("younger", 31)])
    build_samples(spark, lake, dates=[DAY], attribution=Attribution.CORRECTION, until=T0 + 120)
    rows = {row["request_id"]: row for row in DeltaTables(lake).read(CORRECTED).to_pylist() if row["kind"] == "W"}
    assert rows.keys() == {"quick", "slow", "none"}  # 89 s are less than the shortest window
    early = rows["quick"]
    assert {name for name in NAMES if early[f"mask_{name}"]} == FIRST_TWO_MINUTES
    assert {name for name in NAMES if early[name]} == FIRST_TWO_MINUTES
    assert early["elapsed_s"] == 120.0 and early["known_at"].timestamp() == T0 + 120.0


def test_intervals_of_training_give_every_label_once(lake: Path, spark: "SparkSession", store_events: Store) -> None:
    store_events(STORY)
    build_samples(spark, lake, dates=[DAY], attribution=Attribution.CORRECTION)
    first, second = read_corrected(lake, until=T0 + 100), read_corrected(lake, since=T0 + 100, until=T0 + 900)
    third = read_corrected(lake, since=T0 + 900)
    assert sum(part.mask.sum() for part in (first, second, third)) == 3 * len(NAMES) + 5
    assert {NAMES[n] for n in first.mask.any(axis=0).nonzero()[0]} == {"click", "watch"}
    assert list(zip(second.rows.request_id, second.kind, second.objective, strict=True)) == [
        ("slow", "DP", "effective_watch"), ("none", "W", ""), ("quick", "W", ""), ("slow", "W", ""),
    ]  # fmt: skip
    assert third.elapsed_s.tolist() == [1_200.0, 3_600.0, 3_600.0]
    assert third.delays == [{"gift": 1_200.0}, {"interaction": 3_600.0}, {"like": 3_600.0}]
    assert second.delays[2] == {
        "click": 60.0, "watch": 66.0, "effective_watch": 114.0, "completion": 114.0, "follow": 894.0, "like": 894.0
    }  # fmt: skip
    with pytest.raises(NoSamples, match="became known after 2026-11-10T14:00:00"):
        read_corrected(lake, since=T0 + 2 * HOUR)


def test_the_negative_cache_holds_an_impression_until_its_windows_are_over(
    lake: Path, spark: "SparkSession", store_events: Store
) -> None:
    store_events([*STORY, shown("younger", 1)])
    report = build_samples(spark, lake, dates=[DAY], until=T0 + 24 * HOUR)
    assert (report.rows, report.held) == (3, 1)  # the younger one has a second to wait
    samples = read_samples(lake)
    place = {request: n for n, request in enumerate(samples.request_id)}
    positive = {request: {name for name in NAMES if samples.label(name)[n]} for request, n in place.items()}
    funnel = {"click", "watch", "effective_watch", "completion", "like"}
    assert positive == {"quick": funnel | {"follow", "gift"}, "slow": funnel | {"interaction"}, "none": set()}


def test_the_negative_cache_lets_go_at_once_of_an_impression_that_has_every_positive_by_then(
    lake: Path, spark: "SparkSession", store_events: Store
) -> None:
    store_events(STORY)
    two = [one for one in OBJECTIVES if one.name in ("click", "completion")]
    report = build_samples(spark, lake, dates=[DAY], until=T0 + 179, objectives=two)
    rows = DeltaTables(lake).read(TABLE, columns=["request_id"])["request_id"].to_pylist()
    assert rows == ["quick"]  # the slow one leaves a second later
    assert (report.rows, report.held) == (1, 2)


def test_real_negatives_come_at_the_end_of_the_attribution_window_for_the_objectives_asked(
    lake: Path, spark: "SparkSession", store_events: Store
) -> None:
    store_events([*STORY, shown("younger", 1)])
    build_samples(
        spark, lake, dates=[DAY], attribution=Attribution.CORRECTION, until=T0 + 24 * HOUR, real_negatives=["gift"]
    )
    rows = [row for row in DeltaTables(lake).read(CORRECTED).to_pylist() if row["kind"] == "RN"]
    assert {(row["request_id"], row["objective"], row["elapsed_s"]) for row in rows} == {
        ("slow", "gift", 86_400.0), ("none", "gift", 86_400.0)
    }  # fmt: skip
    assert all(row["mask_gift"] == 1 and row["gift"] == 0 and row["mask_click"] == 0 for row in rows)


@pytest.mark.parametrize(("observe", "attribute"), [(0.0, 60.0), (61.0, 60.0), (-1.0, -1.0)])
def test_an_observation_window_lies_within_its_attribution_window(observe: float, attribute: float) -> None:
    with pytest.raises(BadRange, match="objective gift observes for"):
        Objective("gift", ("gift_sent",), observe, attribute)
