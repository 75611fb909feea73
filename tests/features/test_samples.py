"""Samples: what was shown, with the features of that moment, and what the viewer did with it within a day."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from events import schema as s
from features.errors import NoSamples, NoTable
from features.offline_tables import days, open_table
from features.samples import build_samples
from features.training_input import read_samples
from tests.features.conftest import Store, at

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

DAY_ONE, DAY_TWO = date(2026, 11, 10), date(2026, 11, 11)


def shown(request: str, minutes: float, *, item: str = "i1", position: int = 0, **more: Any) -> s.Impression:
    common: dict[str, Any] = {"content_type": s.ContentType.VIDEO, "creator_id": "c1", "features": {"user.plays": 5.0}}
    return s.Impression(
        event_id=f"{request}:{position}", event_at=at(minutes), request_id=request, user_id="u1", item_id=item,
        position=position, **(common | more),
    )  # fmt: skip


def media(
    kind: type[s.MediaEvent], request: str | None, minutes: float, *, item: str = "i1", name: str = ""
) -> s.MediaEvent:
    return kind(
        event_id=f"{kind.__name__}{request}{item}{minutes}{name}",
        event_at=at(minutes),
        user_id="u1",
        item_id=item,
        request_id=request,
    )


def live(kind: type[s.LiveEvent], request: str, minutes: float, **more: Any) -> s.LiveEvent:
    room = {"user_id": "u1", "room_id": "r1", "streamer_id": "h1", "request_id": request}
    return kind(event_id=f"{kind.__name__}{request}{minutes}", event_at=at(minutes), **room, **more)


LIVE = {"content_type": s.ContentType.LIVE, "creator_id": "h1", "item": "r1"}
HOURS = 60.0
PUBLISHED = s.MediaPublished(
    event_id="m", event_at=at(-60), item_id="i1", creator_id="c1", content_type="VIDEO", category="jazz"
)


@pytest.fixture
def told(lake: Path, store_events: Store) -> Path:
    """Day one: seven impressions, a feed with nothing, and what followed; day two: one."""
    store_events([
        s.EmptyFeed(event_id="nothing:empty", event_at=at(6), request_id="nothing", user_id="u1"),
        shown("full", 0), shown("full", 0, item="i2", position=1),
        shown("copy", 1), shown("copy", 1),
        shown("bare", 2, features=None),
        shown("tomorrow", 11 * HOURS), shown("forgotten", 3),
        shown("short", 4, **LIVE), shown("long", 5, **LIVE),
        shown("second", 24 * HOURS + 5),
    ])  # fmt: skip
    store_events([
        PUBLISHED,
        s.FeedClicked(event_id="click", event_at=at(0.1), user_id="u1", item_id="i1", request_id="full", position=0),
        media(s.MediaCompleted, "full", 3), media(s.MediaLiked, "full", 4),
        media(s.MediaSkipped, "full", 4, item="i2"),
        media(s.MediaStarted, "copy", 1.5), media(s.MediaStarted, "copy", 1.5),
        media(s.MediaLiked, "tomorrow", 20 * HOURS),
        media(s.MediaLiked, "forgotten", 3 + 24 * HOURS + 0.1),
        live(s.RoomEntered, "short", 4.1), live(s.RoomLeft, "short", 4.5, watched_s=24.0),
        live(s.RoomEntered, "long", 5.1), live(s.RoomLeft, "long", 5.6, watched_s=30.0),
        live(s.GiftSent, "long", 5.5, amount=9.0),
        media(s.MediaLiked, "nowhere", 9), media(s.MediaLiked, None, 9),
        media(s.MediaStarted, "second", 24 * HOURS + 6),
    ])  # fmt: skip
    store_events([media(s.MediaCompleted, "copy", 2)], late=True)
    return lake


def test_labels_join_by_request_and_item_within_a_day_and_a_second_run_changes_nothing(
    told: Path, spark: "SparkSession"
) -> None:
    report = build_samples(spark, told, dates=days(DAY_ONE, DAY_TWO))
    samples = read_samples(told)
    labels = {
        (samples.request_id[n], samples.item_id[n]): (
            int(samples.click[n]),
            int(samples.completion[n]),
            int(samples.like[n]),
        )
        for n in range(len(samples))
    }
    assert labels == {
        ("full", "i1"): (1, 1, 1),
        ("full", "i2"): (0, 0, 0),  # skipped
        ("copy", "i1"): (1, 1, 0),  # completed late: a label all the same
        ("bare", "i1"): (0, 0, 0),
        ("tomorrow", "i1"): (0, 0, 1),  # liked after midnight
        ("forgotten", "i1"): (0, 0, 0),  # liked after more than a day
        ("short", "r1"): (1, 0, 0),  # 24 s are no effective watch
        ("long", "r1"): (1, 1, 1),
        ("second", "i1"): (1, 0, 0),
    }
    table = open_table(told, "samples")
    assert table is not None and {"scores", "explored"}.isdisjoint(one.name for one in table.delta.schema().fields)
    assert (report.rows, report.hydrated, report.late, report.duplicates) == (9, 1, 1, 2)
    assert report.positives == {
        "click": 5, "watch": 4, "effective_watch": 1, "interaction": 0, "follow": 0, "gift": 1, "completion": 3, "like": 3,
        "share": 0,
    }  # fmt: skip
    assert (report.late_rate, report.duplicate_rate) == (pytest.approx(1 / 11), pytest.approx(2 / 27))
    assert (report.held, report.delayed, report.delayed_share) == (0, None, None)
    assert (report.events, report.joined) == (13, 11)  # forgotten's and nowhere's likes found no impression in time
    assert report.join_rate == pytest.approx(11 / 13)

    place = {request: n for n, request in enumerate(samples.request_id)}
    bare, long = place["bare"], place["long"]
    assert samples.hydrated.tolist() == [n == bare for n in range(9)]
    assert samples.features[bare]["item.category"] == "jazz" and samples.features[bare]["user.plays"] == 1.0
    assert samples.features[place["copy"]] == {"user.plays": 5.0}  # as logged, not as computed
    assert samples.item_key[long] == "h1" and samples.positive_at[long] == at(5.1).timestamp()
    assert list(samples.event_at) == sorted(samples.event_at)

    again = build_samples(spark, told, dates=[DAY_TWO])
    assert (again.rows, again.events, again.joined) == (1, 3, 2)
    assert len(read_samples(told)) == 9 and len(read_samples(told, until=DAY_ONE)) == 8


def test_dates_without_impressions_are_said_in_one_sentence(told: Path) -> None:
    nothing: Any = None  # Spark is never asked
    with pytest.raises(NoSamples, match="no impression has an event date from 2026-12-01 to 2026-12-02"):
        build_samples(nothing, told, dates=days(date(2026, 12, 1), date(2026, 12, 2)))


def test_an_empty_lake_is_said_in_one_sentence(lake: Path) -> None:
    nothing: Any = None
    with pytest.raises(NoTable, match="no table 'impressions'"):
        build_samples(nothing, lake, dates=[DAY_ONE])
