"""How a world changes: each dial does what it says, is a matter of seed and time, and at 0 does nothing."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from events import schema as s
from events.log import MemoryLog, MemoryWriter
from events.topics import decode
from simulator import NoFeed, World, WorldConfig
from simulator.arrivals import Arrivals
from simulator.behaviour import Mint, visit
from simulator.catalogue import Room, Thing, rooms_of_day
from simulator.dials import Change, Rates
from simulator.live import Broadcasts
from simulator.moods import Moods, shocks_of_day
from simulator.population import DAY, hosts_born_on, make_hosts, make_viewers
from simulator.taste import Memory, utility

START = WorldConfig().start_at.timestamp()  # a Monday
FIRST_DAY = int(START // DAY)


def config(change: Change | None = None, **dials: Any) -> WorldConfig:
    small = {"viewers": 50, "hosts": 40, "creators": 20, "items": 60, "paired": True}
    return WorldConfig(**(small | dials), change=change or Change())


def moods(change: Change, **dials: Any) -> tuple[Moods, WorldConfig]:
    made = config(change, **dials)
    return Moods(made, make_viewers(made, [])), made


def thing(category: int, kind: str = "VIDEO") -> Thing:
    return Thing("m", kind, "c", "en", ((category, 0.8), ((category + 1) % 12, 0.2)), np.zeros(6), 0.0, 0.0, START)


def test_without_change_a_mood_adds_nothing_at_any_time() -> None:
    still, made = moods(Change())
    viewer = make_viewers(made, [])[3]
    for at in (START, START + 3 * DAY, START + 40 * DAY):
        mood = still.of(viewer, Memory(), at)
        assert not mood.bonus.any()
        assert set(mood.by_type.values()) == {0.0}
        assert (mood.by_status, mood.click_gap) == ({}, 0.0)


def test_interests_drift_from_where_they_began_to_the_spread_that_the_dial_says() -> None:
    drifting, made = moods(Change(interest_drift=0.5, interest_days=1.0), viewers=400)
    viewers = make_viewers(made, [])

    def bonus(at: float) -> np.ndarray[Any, Any]:
        return np.array([drifting.of(one, Memory(), at).bonus for one in viewers]) / made.pulls.match

    assert not bonus(START).any()
    assert bonus(START + 10 * DAY).std() == pytest.approx(0.5, rel=0.05)
    later, sooner = bonus(START + 10 * DAY), bonus(START + 9 * DAY)
    assert np.corrcoef(later.ravel(), sooner.ravel())[0, 1] == pytest.approx(math.exp(-1), abs=0.05)


def test_asking_about_the_past_gives_what_it_was() -> None:
    drifting, made = moods(Change(interest_drift=0.5))
    viewer = make_viewers(made, [])[0]
    first = drifting.of(viewer, Memory(), START + DAY).bonus
    drifting.of(viewer, Memory(), START + 5 * DAY)
    assert drifting.of(viewer, Memory(), START + DAY).bonus.tolist() == first.tolist()


def test_a_shock_lifts_its_category_or_type_for_6_to_48_hours_and_for_everybody() -> None:
    shocked, made = moods(Change(shocks_per_day=3.0, shock_size=1.0))
    shocks = [shock for day in range(FIRST_DAY, FIRST_DAY + 30) for shock in shocks_of_day(made, day)]
    assert 60 < len(shocks) < 120
    assert all(6 * 3_600 <= shock.until_at - shock.from_at <= 48 * 3_600 for shock in shocks)
    of_type = [shock for shock in shocks if shock.content_type]
    assert 0.15 < len(of_type) / len(shocks) < 0.5
    shock = next(one for one in shocks if one.category is not None and one.from_at > START + 3 * DAY)
    before, within = shock.from_at - 1.0, shock.from_at + 1.0
    for viewer in make_viewers(made, [])[:3]:
        gain = shocked.of(viewer, Memory(), within).bonus - shocked.of(viewer, Memory(), before).bonus
        assert gain[shock.category] == pytest.approx(shock.size)


def test_what_was_played_much_pulls_less_for_some_hours() -> None:
    tiring, made = moods(Change(fatigue=0.5))
    viewer, memory = make_viewers(made, [])[0], Memory()
    for _ in range(3):
        memory.watch(thing(4), START)
    mood = tiring.of(viewer, memory, START)
    assert mood.bonus[4] == pytest.approx(-0.5 * math.log(4))
    assert mood.bonus[5] == 0.0
    assert tiring.of(viewer, memory, START + 4 * 3_600).bonus[4] == pytest.approx(-0.5 * math.log(1 + 3 / 4))


def test_the_playback_page_favours_what_is_like_the_item_played() -> None:
    near, made = moods(Change(context=1.0))
    viewer = make_viewers(made, [])[0]
    mood = near.of(viewer, Memory(), START, playing=thing(4))
    alike = utility(viewer, Memory(), thing(4), START, mood=mood) - utility(viewer, Memory(), thing(4), START)
    assert alike == pytest.approx(0.8 * 0.8 + 0.2 * 0.2)


def test_groups_differ_in_taste_and_viewers_above_45_click_less() -> None:
    grouped, made = moods(Change(group_taste=0.5, group_click_gap=0.7), viewers=200)
    by_group: dict[tuple[str, str], set[tuple[float, ...]]] = {}
    for viewer in make_viewers(made, []):
        mood = grouped.of(viewer, Memory(), START)
        by_group.setdefault((viewer.age_band, viewer.gender), set()).add(tuple(mood.bonus.round(9)))
        assert mood.click_gap == (0.7 if viewer.age_band in ("45_54", "55_64") else 0.0)
    assert len(by_group) == 10
    assert all(len(tastes) == 1 for tastes in by_group.values())
    assert len({next(iter(tastes)) for tastes in by_group.values()}) == 10


def test_a_highlight_lifts_its_room_while_it_lasts() -> None:
    lifted = config(Change(highlights_per_hour=4.0, highlight_size=1.0))
    rooms = [room for host in make_hosts(lifted) for room in rooms_of_day(lifted, host, FIRST_DAY, not_before=START)]
    hours = sum(room.until_at - room.from_at for room in rooms) / 3_600.0
    assert 3.0 < sum(len(room.highlights) for room in rooms) / hours < 5.0
    room = next(one for one in rooms if one.highlights)
    start, end, size = room.highlights[0]
    assert room.lift(start - 0.5) in (0.0, *(one[2] for one in room.highlights))
    assert room.lift((start + end) / 2) >= size > 0.4


def test_what_the_host_does_now_is_liked_by_some_and_not_by_others() -> None:
    made = config(Change(status_taste=1.0))
    spread, _ = moods(Change(status_taste=1.0))
    room = Room(
        item_id="r", content_type="LIVE", creator_id="h", language="en", topics=((0, 1.0),), style=np.zeros(6),
        quality=0.0, appeal=0.0, from_at=START, until_at=START + 3_600, status=((START, "chat"), (START + 600, "song")),
    )  # fmt: skip
    assert [room.doing(START + at) for at in (0, 599, 600, 3_000)] == ["chat", "chat", "song", "song"]
    viewer = make_viewers(made, [])[0]
    mood = spread.of(viewer, Memory(), START)
    step = utility(viewer, Memory(), room, START + 600, mood=mood) - utility(viewer, Memory(), room, START, mood=mood)
    assert step == pytest.approx(viewer.status_taste["song"] - viewer.status_taste["chat"])


def test_hosts_are_born_and_retire_at_the_dials_rates() -> None:
    made = config(Change(births_per_day=0.1, retirement_per_day=0.2), hosts=200)
    born = [len(hosts_born_on(made, FIRST_DAY + day, first_index=200)) for day in range(50)]
    assert sum(born) / 50 == pytest.approx(20.0, abs=2.5)
    gone = sum(host.until_at < START + 3 * DAY for host in make_hosts(made)) / 200
    assert gone == pytest.approx(1 - math.exp(-0.6), abs=0.1)
    retired = next(host for host in make_hosts(made) if host.until_at < START + DAY)
    assert not rooms_of_day(made, retired, FIRST_DAY + 2, not_before=START)


def test_a_hosts_quality_wanders_slowly_around_her_own_mean() -> None:
    """Spread 0.5; after a day of seven 0.5 e^(-1/7) of it is left: a correlation of 0.87 from day to day."""
    made = config(Change(quality_drift=0.5, quality_days=7.0), hosts=150)
    still = {host.creator_id: host.quality for host in make_hosts(made)}
    broadcasts = Broadcasts(made, make_hosts(made))
    broadcasts.live(START + 20 * DAY)
    by_day: dict[str, dict[int, float]] = {}
    for room in broadcasts.rooms.values():
        by_day.setdefault(room.creator_id, {})[int(room.from_at // DAY)] = room.quality - still[room.creator_id]
    late = range(FIRST_DAY + 14, FIRST_DAY + 19)
    now = [days[day] for days in by_day.values() for day in late if {day, day + 1} <= days.keys()]
    next_day = [days[day + 1] for days in by_day.values() for day in late if {day, day + 1} <= days.keys()]
    # each broadcast adds noise of its own (standard deviation 0.2)
    assert np.std(now) == pytest.approx(math.sqrt(0.5**2 * (1 - math.exp(-2 * 16 / 7)) + 0.2**2), rel=0.12)
    assert np.cov(now, next_day)[0, 1] == pytest.approx(0.25 * math.exp(-1 / 7), rel=0.25)


def test_a_newborn_host_has_a_profile_before_her_first_room() -> None:
    events = told(config(Change(births_per_day=0.3)), 60.0)
    profiles = {event.user_id: event for event in events if isinstance(event, s.CreatorProfile)}
    rooms = [event for event in events if isinstance(event, s.RoomOpened) and int(event.streamer_id[-4:]) >= 40]
    assert rooms
    for room in rooms:
        assert profiles[room.streamer_id].event_at < room.event_at


def test_a_host_keeps_her_days_off_every_week() -> None:
    made = config(Change(days_off=0.5), hosts=20)
    on: dict[int, list[set[int]]] = {week: [set() for _ in range(20)] for week in range(3)}
    for week, weekday in itertools.product(range(3), range(7)):
        for host in make_hosts(made):
            if rooms_of_day(made, replace(host, faithful=1.0), FIRST_DAY + 7 * week + weekday, not_before=START - DAY):
                on[week][host.index].add(weekday)
    assert on[0] == on[1] == on[2]
    assert 0.35 < sum(len(days) for days in on[0]) / (20 * 7) < 0.65


def test_late_joiners_have_no_profile_and_no_visit_before_they_join() -> None:
    made = config(Change(late_joiners=0.5), sessions_per_day=8.0)
    events = told(made, 48.0)
    joined = {one.user_id: one.joins_at for one in make_viewers(made, make_hosts(made))}
    later = {user: at for user, at in joined.items() if at > START}
    assert 15 < len(later) < 35
    seen = {e.user_id for e in events if isinstance(e, s.MediaEvent | s.LiveEvent)}
    assert not seen & {user for user, at in later.items() if at > START + 2 * DAY}
    for event in events:
        if isinstance(event, s.ViewerProfile) and event.user_id in later:
            assert event.event_at.timestamp() == pytest.approx(later[event.user_id], abs=0.01)


def test_weekends_have_more_sessions_and_the_week_as_many_as_before() -> None:
    def per_day(change: Change) -> list[int]:
        arrivals = Arrivals(config(change), make_viewers(config(viewers=4_000), []))
        days = range(7)
        return [
            sum(
                len(arrivals.thinking_of_it(at, at + 3_600.0)[0])
                for at in np.arange(day, day + 1, 1 / 24) * DAY + START
            )
            for day in days
        ]

    plain, lifted = per_day(Change()), per_day(Change(weekend=0.5))
    assert sum(lifted) == pytest.approx(sum(plain), rel=0.03)
    assert sum(lifted[5:]) / sum(lifted[:5]) == pytest.approx(1.5 * 2 / 5, rel=0.1)


def test_nobody_comes_while_on_a_break_and_satisfaction_decides_who_takes_one() -> None:
    arrivals = Arrivals(config(Change(leaving=1.0, away_days=2.0)), make_viewers(config(), []))
    assert arrivals.leaves(3, START, session=int(START), watched_s=1e9) == 0.0
    days = arrivals.leaves(3, START, session=int(START), watched_s=0.0)
    assert days > 0
    everybody = np.arange(50)
    assert 3 not in arrivals.at_home(everybody, START + 0.99 * days * DAY)
    assert 3 in arrivals.at_home(everybody, START + 1.01 * days * DAY)


def test_follows_come_around_their_median_delay_and_some_long_after_the_visit() -> None:
    """Median 480 s; sigma 1.9 puts the 95th of a hundred at 480 x e^(1.645 x 1.9) = 10,900 s."""
    made, mint, rng = config(), Mint("t"), np.random.default_rng(5)
    viewer, room = make_viewers(made, [])[0], rooms_of_day(made, make_hosts(made)[0], FIRST_DAY, not_before=START)[0]
    rates = Rates(followed=1.0, follow_after_s=480.0, late_sigma=1.9, visit_shortest_s=60.0)

    def waits(slower: float) -> list[float]:
        stories = [
            visit(mint, rng, viewer, room, at=START, delight=1.0, request_id=None, surface=s.Surface.HOME,
                  lost_left_share=0.0, rates=rates, slower=slower)
            for _ in range(2_000)
        ]  # fmt: skip
        told = [event for story in stories for event in story.events if isinstance(event, s.StreamerFollowed)]
        return [event.event_at.timestamp() - START for event in told]

    assert np.median(waits(1.0)) == pytest.approx(480.0, rel=0.15)
    assert np.quantile(waits(1.0), 0.95) == pytest.approx(10_900.0, rel=0.3)
    assert np.median(waits(1.5)) == pytest.approx(720.0, rel=0.15)


def told(made: WorldConfig, hours: float) -> list[s.Event]:
    """The events of a world whose viewers have no feed."""
    log = MemoryLog(partitions=1)
    World(made).advance(hours, MemoryWriter(log), NoFeed())
    return [decode(record.topic, record.value) for lane in log.records.values() for record in lane]


def test_pages_are_asked_for_on_every_placement_and_for_rooms_alone() -> None:
    asked: Counter[tuple[str, str | None]] = Counter()
    named_near = []

    class Noted(NoFeed):
        def ask(self, user_id: str, **about: Any) -> Any:
            asked[about["surface"].value, about["content_type"]] += 1
            named_near.append(about.get("context_item_id"))
            return []

    made = config(Change(comment_share=1.0, context=1.0), live_tab_share=0.5, sessions_per_day=20.0, organic_share=1.0)
    World(made).advance(24.0, MemoryWriter(MemoryLog()), Noted())
    assert {surface for surface, _ in asked} == {"home", "playback", "comment"}
    assert asked["home", "LIVE"] > 0.4 * sum(count for (surface, _), count in asked.items() if surface == "home")
    assert any(named_near)
