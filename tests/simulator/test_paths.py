"""The fast path in process and the path through a log and a feed over HTTP give the same events for the same policy."""

import json
from dataclasses import replace
from typing import Any

import httpx
import pytest

from events import schema as s
from events.log import MemoryLog, MemoryReader, MemoryWriter, Record
from events.topics import ENGAGEMENT, decode, encode, topic_of
from simulator import HttpFeed, World
from simulator.policies import Overheard, PolicyFeed, make
from simulator.worlds import named

SMALL: dict[str, Any] = {"viewers": 60, "hosts": 60, "creators": 20, "items": 80, "sessions_per_day": 6.0}
HOURS = 30.0


class Server:
    """A product in miniature behind HTTP: it reads the log before each answer, and logs what it shows."""

    def __init__(self, policy: str, world: World, log: MemoryLog) -> None:
        self._reader = MemoryReader(log, [ENGAGEMENT])
        self._feed = PolicyFeed(make(policy, world), world, writer=MemoryWriter(log))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        for record in self._reader.poll(timeout_s=0.0, limit=10**9):
            self._feed.hear(decode(record.topic, record.value))
        asked = dict(request.url.params)
        page = self._feed.ask(
            asked["user_id"], surface=s.Surface(asked["surface"]), content_type=asked.get("content_type"),
            limit=int(asked["limit"]), now=float(request.headers["X-Livefeed-Now"]),
            context_item_id=asked.get("context_item_id"),
        )  # fmt: skip
        items = [
            {
                "item_id": one.item_id,
                "content_type": one.content_type,
                "creator_id": one.creator_id,
                "position": one.position,
            }
            for one in page
        ]
        request_id = page[0].request_id if page else "none"
        return httpx.Response(200, content=json.dumps({"request_id": request_id, "degraded": [], "items": items}))


def by_topic(records: list[Record]) -> dict[str, list[bytes]]:
    out: dict[str, list[bytes]] = {}
    for record in records:
        out.setdefault(record.topic, []).append(record.value)
    return out


class Kept:
    """A writer in memory without any encoding."""

    def __init__(self) -> None:
        self.events: list[s.Event] = []

    def send(self, event: s.Event) -> None:
        self.events.append(event)

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: object = ()) -> None:
        raise AssertionError("nothing broken was asked for")

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("policy", ["random", "repeat", "oracle"])
def test_both_paths_give_the_same_logs(policy: str) -> None:
    config = replace(named("live-first"), **SMALL)
    world, kept = World(config), Kept()
    fast = PolicyFeed(make(policy, world), world, writer=kept)
    world.advance(HOURS, Overheard(fast, kept), fast)

    world, log = World(config), MemoryLog(partitions=1)
    product = HttpFeed("http://product")
    product._client = httpx.Client(base_url="http://product", transport=httpx.MockTransport(Server(policy, world, log)))
    done = world.advance(HOURS, MemoryWriter(log), product)
    product.close()

    assert done.feed_errors == 0, done.first_error
    expected: dict[str, list[bytes]] = {}
    for event in kept.events:
        expected.setdefault(topic_of(event).name, []).append(encode(event))
    assert by_topic([record for lane in log.records.values() for record in lane]) == expected
    assert done.clicks > 50
