"""What the log says of pages and their clicks, of plays of media, and of sessions: when they begin and how long they last."""

from collections.abc import Callable

from events import schema as s
from simulator.calibration_log import DAY_S, HOUR_S, Notes, Occasion, Open

GRID = 6  # places of the home page that a phone shows as cards
PLACES = 12  # of pages that are at least so long: a short page is another page (rooms alone), and has low places only
IDLE_S = 1_800.0  # without a sign of her, a session is over
# Hours ahead of UTC where most people of a region live, to speak of local evenings (latam: between -4 and -3).
REGION_HOURS = {"na": -5.0, "latam": -3.5, "eu": 1.0, "asia": 9.0}


class Page(Occasion):
    """One answer of the feed."""

    user_id = ""
    at = 0.0
    surface = s.Surface.HOME
    source = ""

    def __init__(self) -> None:
        self.shown: dict[int, bool] = {}  # place, from 0, to whether it is a room
        self.clicks: dict[int, float] = {}  # place to when


class Pages:
    """Impressions and clicks, joined by request and place."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._open = notes, Open(Page)

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """What was shown, and clicked."""
        return {s.Impression: self._shown, s.FeedClicked: self._clicked}

    def _shown(self, event: s.Impression, at: float, now: float) -> None:
        page = self._open.touch(event.request_id, now)
        page.user_id, page.at, page.surface, page.source = event.user_id, at, event.surface, event.source
        page.shown[event.position] = event.content_type is s.ContentType.LIVE

    def _clicked(self, event: s.FeedClicked, at: float, now: float) -> None:
        self._open.touch(event.request_id, now).clicks.setdefault(event.position, at)

    def close(self, before: float) -> None:
        """Count the pages without news since then."""
        for page in self._open.over(before):
            if page.shown and self._notes.span.holds(page.at):
                self._count(page)

    def _count(self, page: Page) -> None:
        book, group = self._notes.viewers, self._notes.people.of(page.user_id)
        clicks = {place: at for place, at in page.clicks.items() if place in page.shown}
        book.add("pages", group)
        book.add("shown", group, amount=len(page.shown))
        book.add("clicks", group, amount=len(clicks))
        for place, live in page.shown.items():
            kind = "rooms" if live else "media"
            book.add(f"{kind} shown", group)
            book.add(f"{kind} clicked", group, amount=place in clicks)
            if page.surface is s.Surface.HOME:
                self._count_place(page, place, clicked=place in clicks)
        if clicks:
            book.spread("click after", group, value=min(clicks.values()) - page.at)

    def _count_place(self, page: Page, place: int, *, clicked: bool) -> None:
        book, group = self._notes.viewers, self._notes.people.of(page.user_id)
        if place < GRID:
            book.add("grid shown", group)
            book.add("grid clicked", group, amount=clicked)
        if place >= PLACES or len(page.shown) < PLACES:
            return
        for which in ("home", "random") if page.source == "random" else ("home",):
            book.cell(f"{which} shown", group, column=place)
            book.cell(f"{which} clicked", group, column=place, amount=clicked)


class Play(Occasion):
    """One play of a media item, from one request."""

    event: s.MediaStarted | None = None
    at = 0.0
    length_s: float | None = None  # as far as the log tells

    def __init__(self) -> None:
        self.said: set[str] = set()


_SAID: dict[type[s.Event], str] = {
    s.MediaCompleted: "completed", s.MediaSkipped: "skipped", s.MediaPausedEarly: "paused early", s.MediaLiked: "liked",
    s.MediaShared: "shared", s.MediaReplay: "replayed", s.MediaAddedToPlaylist: "kept", s.MediaDisliked: "disliked",
    s.SubscriptionToCreator: "subscribed",
}  # fmt: skip
ENDS = ("completed", "skipped", "paused early")


class Plays:
    """Plays of media and what came of each; how long one was is told where it was completed, skipped or paused early."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._open = notes, Open(Play)

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """Everything that happens to media."""
        return {s.MediaStarted: self._started, **dict.fromkeys(_SAID, self._said)}

    def _started(self, event: s.MediaStarted, at: float, now: float) -> None:
        play = self._open.touch((event.user_id, event.item_id, event.request_id), now)
        if play.event is not None:  # found again by a search
            self._count(play)
            play = self._open.begin((event.user_id, event.item_id, event.request_id), now)
        play.event, play.at = event, at

    def _said(self, event: s.MediaEvent, at: float, now: float) -> None:
        play, word = self._open.touch((event.user_id, event.item_id, event.request_id), now), _SAID[type(event)]
        play.said.add(word)
        if word in ENDS:
            told = getattr(event, "played_s", None)
            play.length_s = max(at - play.at, 0.0) if told is None and play.event is not None else told

    def close(self, before: float) -> None:
        """Count the plays without news since then."""
        for play in self._open.over(before):
            self._count(play)

    def _count(self, play: Play) -> None:
        if play.event is None or not self._notes.span.holds(play.at):
            return
        book, group = self._notes.viewers, self._notes.people.of(play.event.user_id)
        book.add("plays", group)
        for word in sorted(play.said):
            book.add(word, group)
        book.add("end not told", group, amount=not play.said.intersection(ENDS))
        if play.length_s is not None:
            book.spread("play", group, value=play.length_s)


class Sessions:
    """A viewer's signs without half an hour between them; follows and gifts, which may come hours later, are no signs."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._open: dict[str, tuple[float, float]] = {}  # viewer to first and last sign
        self._hours: dict[str, float] = {}  # viewer to hours ahead of UTC
        self._came: set[str] = set()
        whole = int(notes.span.days) * DAY_S
        self._whole_days_until = notes.span.since + whole

    def hears(self) -> dict[type[s.Event], Callable[..., None]]:
        """Signs of a viewer, and where she lives."""
        signs = (
            s.Impression, s.FeedClicked, s.MediaStarted, s.MediaCompleted, s.MediaPausedEarly, s.MediaSkipped, s.RoomEntered,
            s.WatchHeartbeat, s.RoomLeft,
        )  # fmt: skip
        return {**dict.fromkeys(signs, self._sign), s.ViewerProfile: self._profile}

    def _profile(self, event: s.ViewerProfile, at: float, now: float) -> None:
        if event.region in REGION_HOURS:
            self._hours[event.user_id] = REGION_HOURS[event.region]

    def _sign(self, event: s.Impression | s.FeedClicked | s.MediaEvent | s.LiveEvent, at: float, now: float) -> None:
        who = event.user_id
        first, last = self._open.get(who, (at, at))
        if at > last + IDLE_S:
            self._count(who, first, last)
            first = last = at
        if at >= first - IDLE_S:  # else it belongs to a session that was counted already
            self._open[who] = (min(first, at), max(last, at))

    def close(self, before: float) -> None:
        """At the log's end, count the sessions that are open; one viewer has one at a time, so none is closed earlier."""
        if before == float("inf"):
            for who, (first, last) in self._open.items():
                self._count(who, first, last)
            self._open.clear()

    def _count(self, who: str, first: float, last: float) -> None:
        if not self._notes.span.holds(first):
            return
        book, group = self._notes.viewers, self._notes.people.of(who)
        book.add("sessions", group)
        book.spread("session", group, value=last - first)
        if who not in self._came:
            self._came.add(who)
            book.add("viewers", group)
        if who in self._hours and first < self._whole_days_until:
            book.cell("sessions by hour", group, column=int((first / HOUR_S + self._hours[who]) % 24))
