"""The calibration report: its figures on logs written by hand, its verdicts, its page, and what a null world must give."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from events import schema as s
from events.clock import utc
from simulator.calibration import Figure, figures, judge, tape_of
from simulator.calibration_figures import FIGURES, seen
from simulator.calibration_log import Span
from simulator.calibration_sums import Estimate, around_the_day, power_of_place, top_share, zipf_exponent
from simulator.calibration_table import PUBLISHED, Published

DAY = 86_400.0
START = 1_793_577_600.0  # 2026-11-02 00:00 UTC
SMALL: dict[str, Any] = {"viewers": 60, "hosts": 40, "creators": 10, "items": 60, "sessions_per_day": 6.0}


class Log:
    """A log written by hand; times are seconds after the start of the day that counts."""

    def __init__(self, days: float = 1.0) -> None:
        self.tape, self.rooms = tape_of(since=START, until=START + days * DAY)
        self._count = 0

    def say(self, kind: Callable[..., s.Event], at: float, **fields: Any) -> s.Event:
        self._count += 1
        event = kind(event_id=f"e{self._count}", event_at=utc(START + at), **fields)
        self.tape.send(event)
        return event

    def in_room(self, kind: Callable[..., s.Event], at: float, *, who: str, host: str, **more: Any) -> None:
        where = {"room_id": f"room of {host}", "streamer_id": host, "request_id": "asked"}
        self.say(kind, at, user_id=who, **(where | more))

    def visit(self, at: float, *, who: str, host: str, lasts: float, **more: Any) -> None:
        self.in_room(s.RoomEntered, at, who=who, host=host, **more)
        for beat in range(1, int(lasts // 30) + 1):
            self.in_room(s.WatchHeartbeat, at + 30 * beat, who=who, host=host, **more)
        self.in_room(s.RoomLeft, at + lasts, who=who, host=host, watched_s=lasts, **more)

    def page(
        self, at: float, *, who: str, request: str, clicks: dict[int, float], places: int = 2, **more: Any
    ) -> None:
        for place in range(places):
            what = {"item_id": f"item{place}", "content_type": s.ContentType.VIDEO, "creator_id": "c"}
            self.say(s.Impression, at, user_id=who, request_id=request, position=place, **(what | more))
        for place, after in clicks.items():
            self.say(s.FeedClicked, at + after, user_id=who, request_id=request, position=place, item_id=f"item{place}")

    def broadcast(self, at: float, *, host: str, lasts: float, closes: bool = True, language: str = "en") -> None:
        who = {"streamer_id": host, "room_id": f"{host} at {at}"}
        self.say(s.RoomOpened, at, category="music", language=language, **who)
        for beat in range(1, math.ceil(lasts / 30)):
            self.say(s.RoomHeartbeat, at + 30 * beat, **who)
        if closes:
            self.say(s.RoomClosed, at + lasts, **who)

    def read(self) -> dict[str, Figure]:
        self.tape.finish()
        return {one.key: one for one in figures(seen(self.tape.notes, self.rooms, seed=1))}


def test_an_empty_log_shows_nothing_and_breaks_nothing() -> None:
    found = Log().read()
    assert len(found) == len(FIGURES)
    assert {(one.value, one.low) for one in found.values()} == {(None, None)}
    assert {one.verdict for one in found.values()} == {"not seen"}


def test_repeat_watching_counts_entries_to_hosts_watched_before_also_before_the_day_that_counts() -> None:
    log = Log()
    log.visit(-3_600, who="ann", host="h1", lasts=60)
    log.visit(100, who="ann", host="h1", lasts=60)
    log.visit(400, who="ann", host="h2", lasts=60)
    log.visit(700, who="ann", host="h2", lasts=60, request_id="again")
    log.visit(900, who="bob", host="h1", lasts=60)
    found = log.read()
    assert (found["repeat"].value, found["repeat"].n) == (0.5, 4)
    assert found["repeat"].verdict == "too short"  # a day is no month


def test_a_look_every_ten_minutes_misses_short_visits_and_counts_long_ones_by_looks() -> None:
    log = Log()
    log.visit(10, who="ann", host="h1", lasts=580)  # between two looks
    log.visit(1_190, who="ann", host="h2", lasts=20)  # seen at 1200
    log.visit(2_300, who="ann", host="h3", lasts=1_300)  # seen at 2400, 3000 and 3600
    found = log.read()
    assert found["length_rounds"].value == pytest.approx(1_200.0)  # two looks in the mean
    assert found["length_rounds"].n == 2
    assert (found["visits_day"].value, found["visits_rounds_day"].value) == (3.0, 2.0)


def test_visits_give_mean_median_short_share_and_effective_share() -> None:
    log = Log()
    for number, lasts in enumerate((2.0, 10.0, 40.0, 100.0, 848.0)):
        log.visit(2_000 * number, who=f"v{number}", host="h", lasts=lasts)
    log.in_room(s.RoomEntered, 20_000, who="lost", host="h")  # her leaving is lost; one heartbeat came
    log.in_room(s.WatchHeartbeat, 20_030, who="lost", host="h")
    found = log.read()
    assert found["visit_mean"].value == pytest.approx(200.0)
    assert found["visit_median"].value == pytest.approx(40.0, rel=0.011)
    assert found["short"].value == pytest.approx(1 / 5)
    assert found["effective"].value == pytest.approx(4 / 6)
    assert found["lost_left"].value == pytest.approx(1 / 6, rel=1e-5)


def test_what_follows_an_entry_is_counted_with_its_delay_even_after_the_day() -> None:
    log = Log()
    log.visit(DAY - 400, who="ann", host="h", lasts=300)
    log.visit(50, who="bob", host="h", lasts=60)
    for after in (100, 130):
        log.in_room(s.CommentPosted, DAY - 400 + after, who="ann", host="h")
    log.in_room(s.GiftSent, DAY - 400 + 250, who="ann", host="h", amount=9.0)
    log.in_room(s.StreamerFollowed, DAY - 400 + 3_600, who="ann", host="h")
    found = log.read()
    assert [found[key].value for key in ("comments", "gifts", "interaction", "follow", "coins")] == [
        1.0,
        0.5,
        0.5,
        0.5,
        9.0,
    ]
    assert found["interaction_after"].value == pytest.approx(100.0, rel=0.011)
    assert found["follow_after"].value == pytest.approx(3_600.0, rel=0.011)
    assert found["gift_after"].value == pytest.approx(250.0, rel=0.011)


def test_a_repeated_event_counts_once_and_is_a_duplicate_seen() -> None:
    log = Log()
    log.visit(0, who="ann", host="h", lasts=20)
    again = log.say(s.CommentPosted, 5, user_id="ann", room_id="room of h", streamer_id="h", request_id="asked")
    log.tape.send(again)
    found = log.read()
    assert found["comments"].value == 1.0
    assert found["duplicates"].value == pytest.approx(1 / 4)  # of four messages


def test_late_disordered_and_broken_messages_are_told_by_the_servers_time() -> None:
    log = Log()
    log.visit(0, who="ann", host="h", lasts=20)
    log.say(s.RoomHeartbeat, 1_000, streamer_id="h", room_id="r")
    for at in (50, 900, 990):  # 950, 100 and 10 seconds behind
        log.in_room(s.CommentPosted, at, who="ann", host="h")
    log.tape.send_raw("user.engagement.events", key=b"ann", value=b"{")
    found = log.read()
    assert [found[key].value for key in ("late", "disordered", "broken", "ahead")] == [
        pytest.approx(share, rel=1e-5) for share in (1 / 6, 2 / 6, 1 / 6, 0.0)
    ]


def test_lost_heartbeats_are_those_that_the_told_length_asks_for() -> None:
    log = Log()
    log.visit(0, who="ann", host="h", lasts=150)  # 5 beats
    log.in_room(s.RoomEntered, 1_000, who="bob", host="h")
    log.in_room(s.WatchHeartbeat, 1_060, who="bob", host="h")
    log.in_room(s.RoomLeft, 1_100, who="bob", host="h", watched_s=100.0)  # 3 were due, 1 came
    assert log.read()["lost_beats"].value == pytest.approx(2 / 8)


def test_pages_give_click_rates_by_kind_and_the_delay_of_the_first_click() -> None:
    log = Log()
    log.page(0, who="ann", request="p1", clicks={0: 4.0, 1: 90.0})
    log.page(50, who="bob", request="p2", clicks={})
    log.page(60, who="bob", request="p3", clicks={1: 9.0}, content_type=s.ContentType.LIVE)
    log.page(-60, who="bob", request="p0", clicks={1: 9.0})  # before the day that counts
    found = log.read()
    assert [found[key].value for key in ("click", "click_media", "click_rooms")] == [0.5, 0.5, 0.5]
    assert found["click_after"].value == pytest.approx(4.0, rel=0.011)


def test_plays_are_told_apart_by_how_they_end() -> None:
    log = Log()
    ends: list[tuple[type[s.Event], dict[str, float]]] = [
        (s.MediaCompleted, {"played_s": 80.0}), (s.MediaCompleted, {"played_s": 80.0}), (s.MediaSkipped, {}),
        (s.MediaLiked, {}),
    ]  # fmt: skip
    for number, (end, more) in enumerate(ends):
        what = {"user_id": f"v{number}", "item_id": "i", "request_id": "r"}
        log.say(s.MediaStarted, 100 * number, **what)
        log.say(end, 100 * number + 4, **what, **more)
    found = log.read()
    assert [found[key].value for key in ("completed", "skipped", "untold", "liked")] == [0.5, 0.25, 0.25, 0.25]
    assert found["play_median"].value == pytest.approx(80.0, rel=0.011)
    assert found["play_median"].n == 3


def test_rooms_on_air_at_a_time_and_viewers_in_them() -> None:
    log = Log()
    log.broadcast(0, host="h1", lasts=43_200.0)
    log.broadcast(43_200, host="h2", lasts=43_200.0, language="ko")
    log.visit(0, who="ann", host="h1", lasts=8_640.0)  # a tenth of the day
    found = log.read()
    assert found["rooms_at_once"].value == pytest.approx(1.0)
    assert found["on_air"].value == pytest.approx(0.5)
    assert found["per_room"].value == pytest.approx(0.1)
    assert (found["english"].value, found["languages"].value) == (0.5, 2.0)


def test_a_broadcast_whose_close_was_lost_ends_with_its_last_heartbeat_and_one_still_on_air_has_no_length() -> None:
    log = Log()
    log.broadcast(0, host="h1", lasts=3_600.0, closes=False)
    log.broadcast(DAY - 600, host="h2", lasts=600.0, closes=False)  # the log ends while it is on
    found = log.read()
    assert found["broadcast"].value == pytest.approx(3_570.0, rel=0.011)
    assert (found["broadcast"].n, found["lost_closes"].value) == (1, 1.0)


def test_new_hosts_are_those_who_joined_in_the_span_on_their_first_day_on_air() -> None:
    log = Log(days=2.0)
    log.say(s.CreatorProfile, -50_000, user_id="old", joined_at=utc(START - 9 * DAY))
    log.say(s.CreatorProfile, 10, user_id="new", joined_at=utc(START + 10))
    for at in (1_000, 3_000, DAY + 1_000):
        for host in ("old", "new"):
            log.broadcast(at, host=host, lasts=60.0)
    assert log.read()["new_hosts"].value == pytest.approx(1 / 4)  # four days of hosts, one of them the first


def test_sessions_end_with_half_an_hour_of_silence_and_begin_at_a_local_hour() -> None:
    log = Log()
    log.say(s.ViewerProfile, -40_000, user_id="ann", region="asia")  # nine hours ahead
    for at in (0, 1_000, 2_000, 3_801, 3_901):
        log.page(at, who="ann", request=f"p{at}", clicks={}, places=1)
    found = log.read()
    assert (found["sessions_day"].value, found["pages_session"].value) == (2.0, 2.5)
    assert found["session"].value == pytest.approx(100.0, rel=0.011)  # of 100 s and 2,000 s
    assert log.tape.notes.viewers.table("sessions by hour", columns=24).sum(axis=0)[[9, 10]].tolist() == [1.0, 1.0]


def test_an_exact_power_of_place_is_found_and_so_is_a_zipf_law() -> None:
    places, ranks = np.arange(1, 13), np.arange(1, 201)
    assert power_of_place(1e6 * places[None, :] ** -0.7, np.full((1, 12), 1e7)) == pytest.approx([0.7])
    assert zipf_exponent((ranks[None, :] - 0.5) ** -1.2) == pytest.approx([1.2])
    assert top_share(np.array([[1.0, 2.0, 3.0, 4.0]]), share=0.25) == pytest.approx([0.4])


def test_places_are_compared_on_pages_of_the_same_length() -> None:
    """Short pages are all clicked, long ones everywhere alike: place says nothing, though low places have more clicks."""
    log = Log()
    for number in range(30):
        more: dict[str, Any] = {"source": "random"}
        log.page(100 * number, who=f"v{number}", request=f"short{number}", clicks={0: 2.0}, places=1, **more)
        log.page(
            100 * number + 50, who=f"v{number}", request=f"long{number}", clicks={number % 12: 2.0}, places=12, **more
        )
    for number in range(6):  # so that each of the twelve places has three clicks
        log.page(9_000 + number, who="w", request=f"rest{number}", clicks={6 + number: 2.0}, places=12, **more)
    assert log.read()["place"].value == pytest.approx(0.0, abs=1e-9)


def test_the_busiest_three_hours_may_lie_across_midnight() -> None:
    counts = np.full((1, 24), 10.0)
    counts[0, [23, 0, 1]], counts[0, [4, 5, 6]] = 40.0, 5.0
    assert [float(one[0]) for one in around_the_day(counts)] == [0.5, 5.5, 8.0]


def test_the_interval_of_a_share_is_as_wide_as_the_normal_formula_says_and_a_viewer_counts_as_one() -> None:
    """400 viewers, half of them click everything: the rate's error is that of 400 coins, however many items each saw."""
    log = Log()
    for number in range(400):
        clicks = dict.fromkeys(range(10), 2.0) if number % 2 else {}
        log.page(100 * number, who=f"v{number}", request=f"p{number}", clicks=clicks, places=10)
    one = log.read()["click"]
    assert one.low is not None and one.high is not None
    assert one.high - one.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 / 400), rel=0.2)


def test_none_of_a_hundred_is_not_said_to_be_zero() -> None:
    log = Log()
    for number in range(100):
        log.page(10 * number, who=f"v{number}", request=f"p{number}", clicks={}, places=1)
    one = log.read()["click"]
    assert (one.value, one.low, one.high) == (0.0, 0.0, 0.03)


RANGE = Published(value=2.0, low=1.0, high=4.0, basis="published", source="by hand")


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Estimate(2.0, 1.5, 3.0), "inside"),
        (Estimate(5.0, 4.5, 6.0), "outside"),
        (Estimate(4.1, 3.9, 4.3), "undecided"),
        (Estimate(2.0, 0.5, 5.0), "undecided"),
        (Estimate(2.0), "undecided"),
        (Estimate(None), "not seen"),
    ],
)
def test_a_verdict_needs_the_whole_interval(found: Estimate, verdict: str) -> None:
    assert judge(found, RANGE) == verdict


def test_without_a_range_there_is_no_verdict_and_without_an_upper_edge_no_too_much() -> None:
    assert judge(Estimate(2.0, 1.0, 3.0), None) == "no published figure"
    no_range = Published(value=2.0, basis="published", source="by hand")
    assert judge(Estimate(2.0, 1.0, 3.0), no_range) == "no published figure"
    open_range = Published(low=4.0, basis="assumption", source="by hand")
    assert judge(Estimate(900.0, 800.0, 1_000.0), open_range) == "inside"


def test_every_published_figure_has_a_source_and_belongs_to_a_row() -> None:
    keys = [row.key for row in FIGURES]
    assert len(set(keys)) == len(keys)
    assert set(PUBLISHED) <= set(keys)
    assert [
        key for key, one in PUBLISHED.items() if not one.source or (one.low is not None and not one.range_from)
    ] == []


def test_what_is_over_is_forgotten_after_a_day_and_counted_once() -> None:
    log = Log(days=4.0)
    for day in range(4):
        log.visit(day * DAY, who=f"v{day}", host="h", lasts=30)
        log.say(s.RoomHeartbeat, day * DAY + 40_000, streamer_id="h", room_id="room of h")
    visits = next(part for part in log.tape._parts if type(part).__name__ == "Visits")
    assert len(visits._open._of) == 1  # type: ignore[attr-defined]
    assert log.read()["repeat"].n == 4


def test_hours_of_the_span_split_a_stay_at_the_full_hour_and_at_the_ends() -> None:
    span = Span(START, START + 7_200.0)
    assert list(span.hours(START - 100.0, START + 3_700.0)) == [(0, 3_600.0), (1, 100.0)]
    assert list(span.hours(START + 7_000.0, START + 9_000.0)) == [(1, 200.0)]
