"""The viewers of the fault drill: a steady number of feeds a second from a few clients, every answer kept."""

import http.client
import json
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple, Self
from urllib.parse import urlencode

from benchmarks.drill_world import VIEWERS, viewer_id
from settings import Settings

CLIENTS, RATE, LIMIT = 2, 40.0, 10  # feeds a second together
TIMEOUT_S = 10.0


class Answer(NamedTuple):
    """One request: when it began and ended (monotonic seconds), and what came."""

    begun: float
    ended: float
    status: int  # 0: the connection failed
    request_id: str
    items: tuple[str, ...]
    degraded: frozenset[str]

    @property
    def fine(self) -> bool:
        """Whether it was answered with a full page."""
        return self.status == 200 and len(self.items) == LIMIT

    @property
    def whole(self) -> bool:
        """Whether nothing was missing from it."""
        return self.fine and not self.degraded

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended - self.begun) * 1e3


class Load:
    """As a context manager: asks until the end; `answers` grows."""

    def __init__(self, settings: Settings, *, rate: float = RATE) -> None:
        self._settings, self._every_s = settings, CLIENTS / rate
        self._stop, self._pause = threading.Event(), threading.Event()
        self._asking = threading.Lock(), threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]
        self._connections = 0  # how often they were made anew
        self.answers: list[Answer] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_S)

    def since(self, begun: float, until: float = float("inf")) -> list[Answer]:
        """Answers to what was asked in that time, in the order in which they came."""
        return sorted((one for one in list(self.answers) if begun <= one.begun < until), key=lambda one: one.ended)

    def pause(self) -> None:
        """Ask nothing more; returns when nothing is under way."""
        self._pause.set()
        for one in self._asking:
            with one:
                pass

    def resume(self) -> None:
        """Ask again, over new connections: the proxy may be another one."""
        self._connections += 1
        self._pause.clear()

    def _run(self, number: int) -> None:
        connection, made = self._connect(), self._connections
        due, count = time.monotonic(), 0
        while not self._stop.is_set():
            due = max(due + self._every_s, time.monotonic() - self._every_s)  # a slow answer is no burst afterwards
            self._stop.wait(max(due - time.monotonic(), 0.0))
            with self._asking[number]:
                if self._pause.is_set():
                    continue
                if made != self._connections:
                    connection.close()
                    connection, made = self._connect(), self._connections
                count += 1
                answer = ask(connection, viewer_id((count * CLIENTS + number) % VIEWERS))
            self.answers.append(answer)
            if not answer.status:
                connection.close()
                connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._settings.host, self._settings.proxy_port, timeout=TIMEOUT_S)


def ask(connection: http.client.HTTPConnection, user: str) -> Answer:
    """One request; whatever goes wrong is a status."""
    query = urlencode({"user_id": user, "limit": str(LIMIT)})
    begun = time.monotonic()
    try:
        connection.request("GET", f"/api/v1/content/feed?{query}")
        answer = connection.getresponse()
        body = json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(begun, time.monotonic(), 0, "", (), frozenset())
    if answer.status != 200:
        return Answer(begun, time.monotonic(), answer.status, "", (), frozenset())
    items = tuple(item["item_id"] for item in body["items"])
    return Answer(begun, time.monotonic(), 200, body["request_id"], items, frozenset(body["degraded"]))


def first_of_a_run(answers: Sequence[Answer], length: int) -> Answer | None:
    """The last of the first `length` whole answers in a row; None when there are none."""
    run = 0
    for one in answers:
        run = run + 1 if one.whole else 0
        if run == length:
            return one
    return None
