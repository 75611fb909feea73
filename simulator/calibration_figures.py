"""The figures of the report, a line each: what it is called, and how it is taken from the sums of an event log."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from simulator.calibration_feed import PLACES
from simulator.calibration_live import ROUND_S, Rooms
from simulator.calibration_log import Notes, Span
from simulator.calibration_sums import (
    Draw,
    Estimate,
    Floats,
    Sample,
    around_the_day,
    power_of_place,
    top_share,
    zipf_exponent,
)

MILD = 0.01  # share of broadcasts from which a language counts as one of the platform's


class Seen(NamedTuple):
    """What one log came to: the viewers' sums and the hosts', each with their weights."""

    viewers: Sample
    hosts: Sample
    rooms: Rooms
    span: Span


def seen(notes: Notes, rooms: Rooms, *, seed: int) -> Seen:
    """The sums of a finished log with weights drawn for it."""
    viewers = Sample(notes.viewers, len(notes.people), seed=seed)
    return Seen(viewers, Sample(notes.hosts, len(notes.streamers), seed=seed), rooms, notes.span)


class Row(NamedTuple):
    """One figure; `of` gives None where the world has no such event. Units: share, s, h, hour (of the day), or none."""

    key: str
    section: str
    label: str
    unit: str
    of: Callable[[Seen], Estimate | None]
    note: str = ""
    least_days: float = 0.0  # of a run, to be held against what is published of weeks


def _rate(over: str, under: str, seen: Seen, *, scale: float = 1.0) -> Estimate:
    return seen.viewers.estimate(seen.viewers.ratio(over, under, scale=scale))


def _of_hosts(over: str, under: str, seen: Seen) -> Estimate:
    return seen.hosts.estimate(seen.hosts.ratio(over, under))


def _at(name: str, q: float, seen: Seen) -> Estimate:
    return seen.viewers.estimate(seen.viewers.quantile(name, q))


def _a_day(what: str, seen: Seen) -> Estimate:
    """A viewer and day, of viewers who came at all."""
    return _rate(what, "viewers", seen, scale=1.0 / seen.span.days)


def _broadcast(q: float, seen: Seen) -> Estimate:
    return seen.hosts.estimate(seen.hosts.quantile("broadcast", q))


def _broadcast_sigma(seen: Seen) -> Estimate:
    """Half the distance of the logs of the 84th and 16th of a hundred: sigma, if the lengths are log-normal."""
    high, low = (seen.hosts.quantile("broadcast", q) for q in (0.8413, 0.1587))
    return seen.hosts.estimate(Draw(np.log(high.values / low.values) / 2, high.n))


def _on_air(seen: Seen) -> Estimate:
    scale = 1.0 / (seen.span.until - seen.span.since)
    return seen.hosts.estimate(seen.hosts.ratio("seconds on air", "hosts on air", scale=scale))


def _rooms_at_once(seen: Seen) -> Estimate:
    on_air = seen.hosts.total("seconds on air") / (seen.span.until - seen.span.since)
    return seen.hosts.estimate(Draw(np.where(on_air > 0, on_air, np.nan), len(seen.rooms.on_air)))


def _in_rooms(seen: Seen) -> Draw:
    """Seconds of viewers in rooms, all hosts together, [1 + replicates]."""
    return seen.viewers.by_row("seconds by host", lambda rows: rows.sum(axis=1))


def _viewers_at_once(seen: Seen) -> Estimate:
    seconds = _in_rooms(seen).values / (seen.span.until - seen.span.since)
    return seen.viewers.estimate(Draw(np.where(seconds > 0, seconds, np.nan), round(seen.viewers.total("viewers")[0])))


def _per_room(seen: Seen) -> Estimate:
    """Viewers of the mean room; hosts as they were, viewers resampled."""
    on_air = seen.hosts.total("seconds on air")[0]
    ratio = _in_rooms(seen).values / on_air if on_air > 0 else np.full(1, np.nan)
    return seen.viewers.estimate(Draw(ratio, round(seen.hosts.total("rooms")[0])))


def _by_host(statistic: Callable[[Floats], Floats], seen: Seen) -> Estimate:
    return seen.viewers.estimate(seen.viewers.by_row("seconds by host", statistic), ranked=True)


def _languages(seen: Seen) -> Estimate:
    def spoken(rows: Floats) -> Floats:
        total = rows.sum(axis=1, keepdims=True)
        return np.where(total[:, 0] > 0, (rows >= MILD * total).sum(axis=1), np.nan)

    draw = seen.hosts.by_row("rooms by language", spoken)
    return seen.hosts.estimate(Draw(draw.values, round(seen.hosts.total("rooms")[0])))


def _busiest(seen: Seen) -> Estimate:
    hours = sorted((seconds / 3_600.0 / seen.span.days for seconds in seen.rooms.on_air.values()), reverse=True)
    most = hours[: max(round(0.01 * len(hours)), 1)]
    return Estimate(sum(most) / len(most) if most else None, n=len(most))


def _place(seen: Seen) -> Estimate:
    clicked, shown = (seen.viewers.columns(f"random {word}", columns=PLACES) for word in ("clicked", "shown"))
    return seen.viewers.estimate(Draw(power_of_place(clicked, shown), round(float(clicked[0].sum()))))


def _hour(which: int, cycle: float | None, seen: Seen) -> Estimate:
    counts = seen.viewers.columns("sessions by hour", columns=24)
    draw = Draw(around_the_day(counts)[which], round(float(counts[0].sum())))
    return seen.viewers.estimate(draw, cycle=cycle, ranked=cycle is None)


def _none(seen: Seen) -> None:
    return None


def _rates(section: str, under: str, rows: Sequence[tuple[str, str, str]]) -> tuple[Row, ...]:
    """Rows of shares of one thing counted: (key, what of it, label)."""
    return tuple(Row(key, section, label, "share", partial(_rate, over, under)) for key, over, label in rows)


WATCHING, CONCURRENCY, SESSIONS = "Watching", "Rooms and hosts", "Sessions and arrivals"
FUNNEL, MEDIA, DELAYS = "The funnel", "Media", "Delays"
FAULTS = "Faults seen (no world but rough-road has more than lost leavings and closes)"
RISES = "rises with the length of the run: before it, nobody has watched anything"
WEEK = 7.0
AT_ROUNDS = "counted as the Twitch sample counts: a visit exists if it is there at a full ten minutes"
FIGURES: tuple[Row, ...] = (
    Row("repeat", WATCHING, "room entries to a host watched before", "share", partial(_rate, "repeats", "visits"),
        f"{RISES}; and with a feed that brings favourites back", WEEK),
    Row("repeat_rounds", WATCHING, "to a host watched before, seen every ten minutes", "share",
        partial(_rate, "repeats at rounds", "visits at rounds"), f"{AT_ROUNDS}; {RISES}", WEEK),
    Row("visit_median", WATCHING, "visit of a room, median", "s", partial(_at, "visit", 0.5)),
    Row("visit_mean", WATCHING, "visit of a room, mean", "s", partial(_rate, "seconds told", "visits told")),
    Row("visit_p90", WATCHING, "visit of a room, 90th of 100", "s", partial(_at, "visit", 0.9)),
    Row("length_rounds", WATCHING, "visit seen every ten minutes, mean", "s",
        partial(_rate, "rounds", "visits at rounds", scale=ROUND_S), AT_ROUNDS),
    Row("visits_day", WATCHING, "room entries a viewer and day", "", partial(_a_day, "visits")),
    Row("visits_rounds_day", WATCHING, "visits a viewer and day, seen every ten minutes", "",
        partial(_a_day, "visits at rounds"), AT_ROUNDS),
    Row("rooms_at_once", CONCURRENCY, "rooms on air at a time, mean", "", _rooms_at_once),
    Row("viewers_at_once", CONCURRENCY, "viewers in rooms at a time, mean", "", _viewers_at_once),
    Row("on_air", CONCURRENCY, "hosts on air at a time, of those in the run", "share", _on_air,
        "published of a month; a shorter run sees fewer hosts, so a larger share", WEEK),
    Row("per_room", CONCURRENCY, "viewers a room on air, mean", "", _per_room,
        "follows from how many viewers and hosts a world is given"),
    Row("zipf", CONCURRENCY, "audience by host, Zipf exponent", "", partial(_by_host, zipf_exponent),
        "seconds watched by host over the run; the hundred largest, at most half; few visits make it steeper"),
    Row("top_1", CONCURRENCY, "watching held by the top hundredth of hosts", "share",
        partial(_by_host, partial(top_share, share=0.01))),
    Row("top_10", CONCURRENCY, "watching held by the top tenth of hosts", "share",
        partial(_by_host, partial(top_share, share=0.1))),
    Row("english", CONCURRENCY, "broadcasts in English", "share", partial(_of_hosts, "rooms in English", "rooms")),
    Row("languages", CONCURRENCY, "languages with a hundredth of broadcasts", "", _languages),
    Row("broadcast", CONCURRENCY, "broadcast, median", "h", partial(_broadcast, 0.5)),
    Row("broadcast_sigma", CONCURRENCY, "broadcast, sigma of the log", "", _broadcast_sigma,
        "from the 16th and 84th of a hundred"),
    Row("busiest", CONCURRENCY, "hours on air a day, busiest hundredth of hosts", "", _busiest),
    Row("new_hosts", CONCURRENCY, "hosts new that day, of hosts who went live", "share",
        partial(_of_hosts, "new hosts", "host days")),
    Row("session", SESSIONS, "session, median", "s", partial(_at, "session", 0.5),
        "first to last sign of a viewer, no half hour between"),
    Row("session_p90", SESSIONS, "session, 90th of 100", "s", partial(_at, "session", 0.9)),
    Row("sessions_day", SESSIONS, "sessions a viewer and day", "", partial(_a_day, "sessions"), "of viewers who came at all"),
    Row("pages_session", SESSIONS, "pages a session", "", partial(_rate, "pages", "sessions")),
    Row("peak", SESSIONS, "middle of the busiest three hours, local", "hour", partial(_hour, 0, 24.0), "whole days alone"),
    Row("trough", SESSIONS, "middle of the quietest three hours, local", "hour", partial(_hour, 1, 24.0), "whole days alone"),
    Row("day_ratio", SESSIONS, "busiest over quietest three hours", "", partial(_hour, 2, None), "whole days alone"),
    Row("click", FUNNEL, "clicks an item shown", "share", partial(_rate, "clicks", "shown")),
    Row("click_grid", FUNNEL, "clicks an item shown, first six places at home", "share",
        partial(_rate, "grid clicked", "grid shown")),
    Row("click_rooms", FUNNEL, "clicks a room shown", "share", partial(_rate, "rooms clicked", "rooms shown")),
    Row("click_media", FUNNEL, "clicks a media item shown", "share", partial(_rate, "media clicked", "media shown")),
    Row("place", FUNNEL, "click rate by place k at home: k to the minus", "", _place,
        "on pages of twelve drawn at random; includes that a click may end the page"),
    Row("short", FUNNEL, "entries from the feed that end within 3 s", "share",
        partial(_rate, "short from feed", "told from feed"), "of visits whose end was told"),
    Row("effective", FUNNEL, "entries from the feed watched for 30 s", "share",
        partial(_rate, "effective from feed", "visits from feed")),
    Row("interaction", FUNNEL, "effective watches with a comment or share", "share",
        partial(_rate, "interacted", "effective")),
    Row("follow", FUNNEL, "effective watches with a follow", "share", partial(_rate, "followed", "effective")),
    Row("gift_watch", FUNNEL, "effective watches with a gift", "share", partial(_rate, "gave", "effective")),
    Row("comments", FUNNEL, "comments a room entry", "share", partial(_rate, "comments", "visits")),
    Row("likes", FUNNEL, "likes a room entry", "share", _none, "rooms have no like here"),
    Row("gifts", FUNNEL, "gifts a room entry", "share", partial(_rate, "gifts", "visits")),
    Row("coins", FUNNEL, "coins a gift, mean", "", partial(_rate, "coins", "gifts")),
    *_rates(MEDIA, "plays", (
        ("completed", "completed", "plays to the end"), ("skipped", "skipped", "plays skipped"),
        ("paused", "paused early", "plays left below 30 %"),
        ("untold", "end not told", "plays left in between (the log does not say when)"),
        ("liked", "liked", "plays with a like"), ("shared", "shared", "plays with a share"),
        ("kept", "kept", "plays kept in a playlist"), ("replayed", "replayed", "plays with a replay"),
        ("subscribed", "subscribed", "plays with a subscription"), ("disliked", "disliked", "plays with a dislike"),
    )),
    Row("play_median", MEDIA, "play of an item, median of those told", "s", partial(_at, "play", 0.5)),
    Row("plays_day", MEDIA, "plays a viewer and day", "", partial(_a_day, "plays")),
    Row("click_after", DELAYS, "page to first click, median", "s", partial(_at, "click after", 0.5),
        "includes looking down the page"),
    Row("interaction_after", DELAYS, "entry to first comment or share, median", "s", partial(_at, "interaction after", 0.5)),
    Row("follow_after", DELAYS, "entry to follow, median", "s", partial(_at, "follow after", 0.5)),
    Row("follow_after_p95", DELAYS, "entry to follow, 95th of 100", "s", partial(_at, "follow after", 0.95)),
    Row("gift_after", DELAYS, "entry to first gift, median", "s", partial(_at, "gift after", 0.5)),
    Row("gift_after_p95", DELAYS, "entry to first gift, 95th of 100", "s", partial(_at, "gift after", 0.95)),
    *_rates(FAULTS, "messages", (
        ("late", "late", "viewers' events over 15 minutes late"),
        ("disordered", "disordered", "viewers' events over a minute out of order"),
        ("ahead", "ahead", "viewers' events dated over a minute ahead"),
        ("duplicates", "repeated", "viewers' events sent again"),
        ("broken", "broken", "viewers' messages not readable"),
    )),
    Row("lost_beats", FAULTS, "heartbeats of viewers lost", "share", partial(_rate, "beats lost", "beats due"),
        "of visits whose end was told"),
    Row("lost_room_beats", FAULTS, "heartbeats of rooms lost", "share",
        partial(_of_hosts, "room beats lost", "room beats due"), "of broadcasts whose close was told"),
    Row("lost_left", FAULTS, "leavings of rooms lost", "share", partial(_rate, "left lost", "visits")),
    Row("lost_closes", FAULTS, "closes of rooms lost", "share", partial(_of_hosts, "closes lost", "rooms over")),
)  # fmt: skip
