"""The event log, read as it is written: each event once, by whom it concerns, with nothing of it kept longer than a day.

    tape = Tape(since=..., until=...)           # an EventWriter; the world writes to it
    tape.finish()

What counts began in [since, until): a page, a play, a visit, a session, a broadcast. What was before is only remembered (whom
did she watch?), what comes after belongs to what had begun. Time is event time; "now" is the newest time that a server wrote.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from events import schema as s
from events.log import Header
from events.topics import ENGAGEMENT, kind_of, topic_of
from simulator.calibration_sums import Book, Groups

HOUR_S, DAY_S = 3_600.0, 86_400.0
KEEP_S = DAY_S  # of event time without news, after which what began is over
IDS = 50_000  # newest event ids, among which a repeated one is known
LATE_S, DISORDER_S = 900.0, 60.0
Handler = Callable[[s.Event, float], None]


class Span(NamedTuple):
    """The time that counts, epoch seconds."""

    since: float
    until: float

    def holds(self, at: float | None) -> bool:
        """Whether something that began then counts."""
        return at is not None and self.since <= at < self.until

    @property
    def days(self) -> float:
        """Its length in days."""
        return (self.until - self.since) / DAY_S

    def hours(self, start: float, end: float) -> Iterator[tuple[int, float]]:
        """(hour of the span, seconds) for every hour that [start, end) touches."""
        start, end = max(start, self.since), min(end, self.until)
        while start < end:
            hour = int((start - self.since) // HOUR_S)
            stop = min(self.since + (hour + 1) * HOUR_S, end)
            yield hour, stop - start
            start = stop


class Notes(NamedTuple):
    """Where the parts write: sums by group of viewers and by group of hosts, within the span."""

    span: Span
    viewers: Book
    hosts: Book
    people: Groups
    streamers: Groups


class Part(Protocol):
    """One aspect of the log."""

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """What it listens to: event type to a function of (event, epoch second of the event, now)."""
        ...

    def close(self, before: float) -> None:
        """Count what began and has had no news since epoch second `before`."""
        ...


class Occasion:
    """Something that began and may still have news; `touched` is when the last came."""

    touched: float = 0.0


T = TypeVar("T", bound=Occasion)


class Open(Generic[T]):
    """Occasions by key, those without news longest first."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._of = make, dict[object, T]()

    def touch(self, key: object, now: float) -> T:
        """The occasion of that key, begun if there is none."""
        found = self._of.pop(key, None)
        return self.begin(key, now) if found is None else self._put(key, found, now)

    def begin(self, key: object, now: float) -> T:
        """A new occasion of that key in the place of the one there was."""
        self._of.pop(key, None)
        return self._put(key, self._make(), now)

    def _put(self, key: object, occasion: T, now: float) -> T:
        occasion.touched = now
        self._of[key] = occasion
        return occasion

    def over(self, before: float) -> Iterator[T]:
        """Take out those without news since epoch second `before`."""
        while self._of:
            key = next(iter(self._of))
            if self._of[key].touched >= before:
                return
            yield self._of.pop(key)


class Tape:
    """An EventWriter that reads what it is sent; every event id counts once."""

    def __init__(self, *, since: float, until: float, parts: Iterable[Callable[[Notes], Part]]) -> None:
        self.notes = Notes(Span(since, until), Book(), Book(), Groups(), Groups())
        self.kinds: Counter[str] = Counter()  # events by type, each once, whenever they were
        self.now = 0.0
        self._known: set[str] = set()
        self._order: deque[str] = deque()
        self._parts = [make(self.notes) for make in parts]
        self._to: dict[type[s.Event], list[Callable[..., None]]] = {}
        for part in self._parts:
            for kind, tell in part.hears().items():
                self._to.setdefault(kind, []).append(tell)
        self._swept = 0.0

    def send(self, event: s.Event) -> None:
        """Read one event."""
        at, kind, mine = event.event_at.timestamp(), type(event), topic_of(event).name == ENGAGEMENT
        if mine and self.notes.span.holds(at):
            self._arrived(event, at)
        if event.event_id in self._known:
            return
        self._remember(event.event_id)
        if not mine:
            self.now = max(self.now, at)
        self.kinds[kind_of(event)] += 1
        for tell in self._to.get(kind, ()):
            tell(event, at, self.now)
        if self.now - self._swept > HOUR_S:
            self._swept = self.now
            self._close(self.now - KEEP_S)

    def _arrived(self, event: s.Event, at: float) -> None:
        """How a viewer's message came: in time, late, ahead of the servers' time, or again."""
        book, group = self.notes.viewers, self.notes.people.of(event.user_id)  # type: ignore[attr-defined]
        book.add("messages", group)
        if event.event_id in self._known:
            book.add("repeated", group)
            return
        for name, off in (("late", at < self.now - LATE_S), ("disordered", at < self.now - DISORDER_S),
                          ("ahead", 0 < self.now < at - DISORDER_S)):  # fmt: skip
            if off:
                book.add(name, group)

    def _remember(self, event_id: str) -> None:
        self._known.add(event_id)
        self._order.append(event_id)
        if len(self._order) > IDS:
            self._known.discard(self._order.popleft())

    def _close(self, before: float) -> None:
        for part in self._parts:
            part.close(before)

    def finish(self) -> None:
        """The log ends here: count everything that is still open."""
        self._close(float("inf"))

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Count bytes that are no event, while they come in the span."""
        if topic == ENGAGEMENT and key is not None and self.notes.span.holds(self.now):
            group = self.notes.people.of(key.decode(errors="replace"))
            self.notes.viewers.add("messages", group)
            self.notes.viewers.add("broken", group)

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""
