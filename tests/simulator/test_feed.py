"""The feeds a world can ask: the HTTP call it makes, answers it refuses, and the random one's logged impressions."""

import httpx
import pytest

from events import schema as s
from events.log import MemoryLog, MemoryWriter
from events.topics import IMPRESSIONS, decode
from simulator import BadDial, FeedFailed, FeedItem, HttpFeed, MixedFeed, NoFeed, RandomFeed, World, WorldConfig
from simulator.errors import NotSettled
from simulator.settle import CollectorSettled

PAGE = {
    "request_id": "r1",
    "degraded": ["model"],
    "items": [{"item_id": "m1", "content_type": "VIDEO", "creator_id": "c1", "position": 0, "score": 0.5}],
}


def http_feed(answer: httpx.Response | Exception, asked: list[httpx.Request]) -> HttpFeed:
    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    feed = HttpFeed("http://proxy")
    feed._client = httpx.Client(base_url="http://proxy", transport=httpx.MockTransport(handle))
    return feed


def ask(feed: HttpFeed, content_type: str | None = None) -> list[tuple[str, int, bool]]:
    page = feed.ask("v1", surface=s.Surface.HOME, content_type=content_type, limit=12, now=1_793_577_600.5)
    return [(item.item_id, item.position, item.degraded) for item in page]


def test_a_request_carries_the_worlds_now_and_only_what_was_asked() -> None:
    asked: list[httpx.Request] = []
    assert ask(http_feed(httpx.Response(200, json=PAGE), asked)) == [("m1", 0, True)]
    assert asked[0].url.path == "/api/v1/content/feed"
    assert dict(asked[0].url.params) == {"user_id": "v1", "surface": "home", "limit": "12"}
    assert asked[0].headers["X-Livefeed-Now"] == "1793577600.500"
    ask(http_feed(httpx.Response(200, json=PAGE), asked), "LIVE")
    assert asked[1].url.params["content_type"] == "LIVE"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(500, text="boom"), "the feed answered status 500 to user v1: boom"),
        (httpx.Response(200, text="not json"), "the feed's answer to user v1 is not a page of items"),
        (httpx.Response(200, json={"items": []}), "the feed's answer to user v1 is not a page of items"),
        (httpx.ConnectError("refused"), "the feed at http://proxy did not answer: refused"),
    ],
)
def test_an_answer_that_is_no_page_is_a_failure(answer: httpx.Response | Exception, message: str) -> None:
    with pytest.raises(FeedFailed) as failed:
        ask(http_feed(answer, []))
    assert str(failed.value).startswith(message)


def test_the_random_feed_logs_what_it_showed_with_its_propensity() -> None:
    world, log = World(WorldConfig(viewers=5, hosts=1, creators=5, items=40)), MemoryLog(partitions=1)
    feed = RandomFeed(world.on, seed=3, writer=MemoryWriter(log))
    page = feed.ask("viewer-00001", surface=s.Surface.HOME, content_type=None, limit=10, now=world.now)
    assert len({item.item_id for item in page}) == 10
    (lane,) = log.records.values()
    logged = [decode(IMPRESSIONS, record.value) for record in lane]
    assert [e.event_id for e in logged] == [f"{page[0].request_id}:{position}" for position in range(10)]
    assert all(isinstance(e, s.Impression) and e.propensity == 1 / 40 and e.source == "random" for e in logged)
    audio = feed.ask("viewer-00001", surface=s.Surface.HOME, content_type="AUDIO", limit=40, now=world.now)
    assert {item.content_type for item in audio} == {"AUDIO"}


def test_a_mixed_feed_asks_the_other_for_its_share_and_only_the_products_pages_are_timed() -> None:
    class Product(NoFeed):
        def ask(self, user_id: str, **request: object) -> list[FeedItem]:
            return [FeedItem("p", "media-000001", "VIDEO", "creator-0001", 0)]

    world = World(WorldConfig(viewers=60, hosts=2, creators=5, items=40, sessions_per_day=6.0))
    feed = MixedFeed(Product(), RandomFeed(world.on, seed=1), share=0.4, seed=1)
    done = world.advance(24.0, MemoryWriter(MemoryLog()), feed)
    assert 0.3 < done.own_feeds / done.feed_requests < 0.5
    assert len(done.feed_ms) == done.feed_requests - done.own_feeds
    with pytest.raises(BadDial, match=r"random_feed_share=1\.5 is not allowed"):
        MixedFeed(Product(), NoFeed(), share=1.5, seed=1)


def pages(*texts: str) -> httpx.Client:
    """A metrics page that changes with each reading; the last one stays."""
    left = list(texts)
    return httpx.Client(
        transport=httpx.MockTransport(lambda _: httpx.Response(200, text=left.pop(0) if len(left) > 1 else left[0]))
    )


def metrics(watermark: float | None, flushes: int) -> str:
    mark = "" if watermark is None else f"livefeed_collector_watermark_seconds {watermark}\n"
    return f"# HELP x\n{mark}livefeed_collector_flushes_total {float(flushes)}\n"


def test_settling_waits_for_the_watermark_and_then_for_one_more_flush() -> None:
    client = pages(metrics(None, 0), metrics(99.0, 1), metrics(100.0, 1), metrics(100.0, 1), metrics(100.0, 2))
    slept: list[float] = []
    CollectorSettled("http://c", client=client, sleep=slept.append)(100.0)
    assert len(slept) == 2


def test_a_collector_that_stands_still_or_is_gone_is_one_sentence() -> None:
    seconds = iter(range(1_000))
    stuck = CollectorSettled(
        "http://c", timeout_s=5, client=pages(metrics(1.0, 0)), timer=lambda: float(next(seconds)), sleep=lambda _: None
    )
    with pytest.raises(NotSettled, match="the collector at http://c has not read the world's events after 5 s"):
        stuck(100.0)
    gone = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(503)))
    with pytest.raises(NotSettled, match="metrics at http://c did not answer"):
        CollectorSettled("http://c", client=gone)(1.0)
