"""What the log says of live rooms: visits and what came of them, repeat watching, broadcasts."""

import math
from collections.abc import Callable

from events import schema as s
from simulator.calibration_log import DAY_S, Notes, Occasion, Open

EFFECTIVE_S, SHORT_S, BEAT_S, LEASE_S = 30.0, 3.0, 30.0, 90.0
ROUND_S = 600.0  # the Twitch sample looked into every room each ten minutes


class Visit(Occasion):
    """One viewer in one room, from one request."""

    event: s.RoomEntered | None = None
    entered = 0.0
    again = False
    left_s: float | None = None
    beats = 0
    last_beat = 0.0
    comments = shares = gifts = 0
    coins = 0.0
    acted: float | None = None  # when first
    followed: float | None = None
    gave: float | None = None


def _key(event: s.LiveEvent) -> tuple[str, str, str | None]:
    return event.user_id, event.room_id, event.request_id


class Visits:
    """Visits of rooms; whom a viewer watched before is remembered by viewer and host."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._open = notes, Open(Visit)
        self._watched: set[tuple[str, str]] = set()  # (viewer, host)
        self._watched_at_rounds: set[tuple[str, str]] = set()
        self._host: dict[str, int] = {}

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """Everything that happens in rooms."""
        return {
            s.RoomEntered: self._entered, s.WatchHeartbeat: self._beat, s.RoomLeft: self._left, s.GiftSent: self._gift,
            s.CommentPosted: self._acted, s.RoomShared: self._acted, s.StreamerFollowed: self._followed,
        }  # fmt: skip

    def _visit(self, event: s.LiveEvent, now: float) -> Visit:
        return self._open.touch(_key(event), now)

    def _entered(self, event: s.RoomEntered, at: float, now: float) -> None:
        visit = self._visit(event, now)
        if visit.event is not None:  # on her own she may come to the same room again
            self._count(visit)
            visit = self._open.begin(_key(event), now)
        visit.event, visit.entered, pair = event, at, (event.user_id, event.streamer_id)
        visit.again = pair in self._watched
        self._watched.add(pair)

    def _beat(self, event: s.WatchHeartbeat, at: float, now: float) -> None:
        visit = self._visit(event, now)
        visit.beats, visit.last_beat = visit.beats + 1, max(visit.last_beat, at)

    def _left(self, event: s.RoomLeft, at: float, now: float) -> None:
        self._visit(event, now).left_s = event.watched_s

    def _acted(self, event: s.CommentPosted | s.RoomShared, at: float, now: float) -> None:
        visit = self._visit(event, now)
        visit.comments += isinstance(event, s.CommentPosted)
        visit.shares += isinstance(event, s.RoomShared)
        visit.acted = min(at, visit.acted or at)

    def _followed(self, event: s.StreamerFollowed, at: float, now: float) -> None:
        self._visit(event, now).followed = at

    def _gift(self, event: s.GiftSent, at: float, now: float) -> None:
        visit = self._visit(event, now)
        visit.gifts, visit.coins, visit.gave = visit.gifts + 1, visit.coins + event.amount, min(at, visit.gave or at)

    def close(self, before: float) -> None:
        """Count the visits without news since then."""
        for visit in self._open.over(before):
            self._count(visit)

    def _count(self, visit: Visit) -> None:
        if visit.event is None:  # its entering never came, so neither when nor how long is known
            return
        span, book, group = self._notes.span, self._notes.viewers, self._notes.people.of(visit.event.user_id)
        seen_s = visit.left_s if visit.left_s is not None else max(visit.last_beat - visit.entered, 0.0)
        host = self._host.setdefault(visit.event.streamer_id, len(self._host))
        for hour, seconds in span.hours(visit.entered, visit.entered + seen_s):
            book.cell("seconds in rooms by hour", group, column=hour, amount=seconds)
            book.cell("seconds by host", group, column=host, amount=seconds)
        self._at_rounds(visit, seen_s, group=group)
        if span.holds(visit.entered):
            self._count_length(visit, group)
            self._count_acts(visit, group)

    def _at_rounds(self, visit: Visit, seen_s: float, *, group: int) -> None:
        """The visit as an observer sees it who looks in every ten minutes: how often, and whether for the first time."""
        assert visit.event is not None
        looks = math.floor((visit.entered + seen_s) / ROUND_S) - math.ceil(visit.entered / ROUND_S) + 1
        if looks < 1:
            return
        pair, book = (visit.event.user_id, visit.event.streamer_id), self._notes.viewers
        if self._notes.span.holds(visit.entered):
            book.add("visits at rounds", group)
            book.add("rounds", group, amount=looks)
            book.add("repeats at rounds", group, amount=pair in self._watched_at_rounds)
        self._watched_at_rounds.add(pair)

    def _count_length(self, visit: Visit, group: int) -> None:
        book, fed = self._notes.viewers, visit.event is not None and visit.event.request_id is not None
        day = int((visit.entered - self._notes.span.since) // DAY_S)
        book.add("visits", group)
        book.add("repeats", group, amount=visit.again)
        book.cell("visits by day", group, column=day)
        book.cell("repeats by day", group, column=day, amount=visit.again)
        effective = visit.beats > 0 or (visit.left_s or 0.0) >= EFFECTIVE_S
        book.add("effective", group, amount=effective)
        if fed:
            book.add("visits from feed", group)
            book.add("effective from feed", group, amount=effective)
        if visit.left_s is None:
            book.add("left lost", group)
            return
        book.add("visits told", group)
        book.add("seconds told", group, amount=visit.left_s)
        book.spread("visit", group, value=visit.left_s)
        book.add("beats due", group, amount=visit.left_s // BEAT_S)
        # not cut at 0: of two visits at once to one room, the first one's last beats count for the second
        book.add("beats lost", group, amount=visit.left_s // BEAT_S - visit.beats)
        if fed:
            book.add("told from feed", group)
            book.add("short from feed", group, amount=visit.left_s < SHORT_S)

    def _count_acts(self, visit: Visit, group: int) -> None:
        book = self._notes.viewers
        acts: tuple[tuple[str, float], ...] = (
            ("comments", visit.comments), ("room shares", visit.shares), ("gifts", visit.gifts), ("coins", visit.coins),
            ("interacted", visit.acted is not None), ("followed", visit.followed is not None),
            ("gave", visit.gave is not None),
        )  # fmt: skip
        for name, amount in acts:
            if amount:
                book.add(name, group, amount=amount)
        for name, at in (
            ("interaction after", visit.acted),
            ("follow after", visit.followed),
            ("gift after", visit.gave),
        ):
            if at is not None:
                book.spread(name, group, value=at - visit.entered)


class Broadcast(Occasion):
    """One room of a host."""

    event: s.RoomOpened | None = None
    streamer_id = ""
    opened = 0.0
    closed: float | None = None
    beats = 0
    last = 0.0


class Rooms:
    """Broadcasts, by host; a room without a close ended with its last heartbeat."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._open = notes, Open(Broadcast)
        self._languages: dict[str, int] = {}
        self.on_air: dict[str, float] = {}  # seconds in the span by host
        self._joined: dict[str, float] = {}
        self._days: set[tuple[str, int]] = set()  # (host, day on which a broadcast began)
        self._newest = 0.0

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """What hosts do, and who is new among them."""
        return {
            s.RoomOpened: self._opened, s.RoomHeartbeat: self._beat, s.RoomStatusChanged: self._beat,
            s.RoomClosed: self._closed, s.CreatorProfile: self._profile,
        }  # fmt: skip

    def _room(self, event: s.RoomEvent, at: float, now: float) -> Broadcast:
        room = self._open.touch(event.room_id, now)
        room.streamer_id, room.last, self._newest = event.streamer_id, max(room.last, at), max(self._newest, at)
        return room

    def _opened(self, event: s.RoomOpened, at: float, now: float) -> None:
        room = self._room(event, at, now)
        room.event, room.opened = event, at

    def _beat(self, event: s.RoomHeartbeat | s.RoomStatusChanged, at: float, now: float) -> None:
        self._room(event, at, now).beats += isinstance(event, s.RoomHeartbeat)

    def _closed(self, event: s.RoomClosed, at: float, now: float) -> None:
        self._room(event, at, now).closed = at

    def _profile(self, event: s.CreatorProfile, at: float, now: float) -> None:
        if event.joined_at is not None:
            self._joined[event.user_id] = event.joined_at.timestamp()

    def close(self, before: float) -> None:
        """Count the broadcasts without news since then."""
        for room in self._open.over(before):
            if room.event is not None:
                self._count(room, room.event)

    def _count(self, room: Broadcast, opening: s.RoomOpened) -> None:
        span, book, group = self._notes.span, self._notes.hosts, self._notes.streamers.of(room.streamer_id)
        for hour, seconds in span.hours(room.opened, room.closed or room.last):
            book.cell("seconds on air by hour", group, column=hour, amount=seconds)
            book.add("seconds on air", group, amount=seconds)
            if room.streamer_id not in self.on_air:
                book.add("hosts on air", group)
            self.on_air[room.streamer_id] = self.on_air.get(room.streamer_id, 0.0) + seconds
        if not span.holds(room.opened):
            return
        self._count_day(room, group)
        language = self._languages.setdefault(opening.language, len(self._languages))
        book.cell("rooms by language", group, column=language)
        book.add("rooms", group)
        book.add("rooms in English", group, amount=opening.language == "en")
        if room.closed is None and room.last > self._newest - LEASE_S:
            book.add("rooms still on air", group)
            return
        book.add("rooms over", group)
        book.add("closes lost", group, amount=room.closed is None)
        book.spread("broadcast", group, value=(room.closed or room.last) - room.opened)
        if room.closed is not None:
            due = max(math.ceil((room.closed - room.opened) / BEAT_S) - 1, 0)
            book.add("room beats due", group, amount=due)
            book.add("room beats lost", group, amount=max(due - room.beats, 0))

    def _count_day(self, room: Broadcast, group: int) -> None:
        """Once for each day on which the host went live; a host who joined in the span is new on the first of hers."""
        host, span, book = room.streamer_id, self._notes.span, self._notes.hosts
        day = int((room.opened - span.since) // DAY_S)
        if (host, day) in self._days:
            return
        self._days.add((host, day))
        book.add("host days", group)
        if span.holds(self._joined.get(host)):
            book.add("new hosts", group)
            del self._joined[host]
