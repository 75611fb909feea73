"""What the proxy calls now: the wall clock, or in time-lapse worlds the time of the last request."""

from events.clock import Clock


class ProxyClock:
    """The background's and requests' clock. With `follows_requests` a request's header says what time it is."""

    def __init__(self, wall: Clock, *, follows_requests: bool) -> None:
        self._wall = wall
        self._last: float | None = None
        self.follows_requests = follows_requests

    def now(self) -> float:
        """Epoch seconds: the last request's where requests say the time, else the wall clock's."""
        if self.follows_requests and self._last is not None:
            return self._last
        return self._wall.now()

    def saw(self, at: float) -> None:
        """A request was asked as of `at`."""
        self._last = at
