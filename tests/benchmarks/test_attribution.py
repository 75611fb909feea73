"""The attribution benchmark's parts by hand: which labels are true, when events arrive, and the interval over seeds."""

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.attribution import Joined, first_positives, interval
from benchmarks.screen_off import ScreenOff, arrivals
from events import schema as s

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def shown(request: str) -> s.Impression:
    return s.Impression(
        event_id=request, event_at=NOON, request_id=request, user_id="u", item_id="r", position=0,
        content_type=s.ContentType.LIVE, creator_id="h",
    )  # fmt: skip


def live(kind: type[s.LiveEvent], request: str | None, seconds: float, **more: float) -> s.LiveEvent:
    name = f"{kind.__name__}{request}{seconds}"
    return kind(
        event_id=name, event_at=at(seconds), user_id="u", room_id="r", streamer_id="h", request_id=request, **more
    )


VISIT = [
    shown("q"), live(s.RoomEntered, "q", 80), live(s.WatchHeartbeat, "q", 110), live(s.WatchHeartbeat, "q", 140),
    live(s.RoomLeft, "q", 150, watched_s=70.0), live(s.GiftSent, "q", 901, amount=1.0),
    live(s.GiftSent, None, 10, amount=1.0),
]  # fmt: skip


def test_true_labels_are_the_first_positives_within_their_observation_windows() -> None:
    found = {label[2]: event.event_at for label, event in first_positives(VISIT).items()}
    assert found == {"click": at(80), "watch": at(80), "effective_watch": at(110), "completion": at(110)}
    brief = [shown("q"), live(s.RoomLeft, "q", 60, watched_s=29.0)]
    assert first_positives(brief) == {}


def test_a_visit_with_the_screen_off_arrives_together_after_it_and_everything_else_on_time() -> None:
    told = arrivals(VISIT, ScreenOff(share=1.0, median_s=600.0, sigma=0.0, lost_share=0.0), seed=1)
    assert len(told) == len(VISIT)
    times = {arrival.event.event_id: arrival.at - NOON.timestamp() for arrival in told}
    assert times["q"] == 0.0 and times["GiftSentNone10"] == 10.0
    assert {times[event.event_id] for event in VISIT[1:6]} == {901.0 + 600.0}
    assert [arrival.at for arrival in told] == sorted(arrival.at for arrival in told)


def test_with_every_screen_on_each_event_arrives_at_its_time() -> None:
    told = arrivals(VISIT, ScreenOff(share=0.0, lost_share=0.0), seed=1)
    assert all(arrival.at == arrival.event.event_at.timestamp() for arrival in told)


def test_lost_events_never_arrive_but_impressions_do() -> None:
    told = arrivals(VISIT, ScreenOff(lost_share=1.0), seed=1)
    assert [arrival.event.event_id for arrival in told] == ["q", "GiftSentNone10"]


def test_a_label_that_is_not_true_joins_nothing() -> None:
    truth = {("q", "r", "click"), ("q", "r", "gift")}
    assert Joined(truth=truth).rate({("q", "r", "click"), ("q", "r", "like")}) == 0.5


def test_the_interval_over_five_seeds_is_students() -> None:
    assert interval([1.0, 2.0, 3.0, 4.0, 5.0]) == (pytest.approx(1.0369, abs=1e-3), pytest.approx(4.9631, abs=1e-3))
