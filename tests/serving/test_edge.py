"""What stands before the pipeline: tokens, rates and shedding, told over HTTP with a small world behind it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from events.clock import SetClock
from serving.feed import Feed, FeedRequest
from serving.http import FEED, Edge, create_app
from serving.limits import LimitConfig
from serving.pipeline import recommend
from serving.tokens import TokenConfig, Tokens
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld
from tests.serving.test_tokens import OCT_KEY, signed, write

AS_OF = {"X-Livefeed-Now": str(NOW)}


@pytest.fixture
def proxy(world: SmallWorld) -> Proxy:
    world.release()
    return world.proxy()


@pytest.fixture
def serve(proxy: Proxy) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda edge: stack.enter_context(TestClient(create_app(proxy.parts, proxy.clock, edge=edge)))


@pytest.fixture
def with_tokens(serve: Any, tmp_path: Path) -> TestClient:
    keys = write(tmp_path, OCT_KEY)
    client: TestClient = serve(Edge(tokens=Tokens(keys, SetClock(NOW), config=TokenConfig(), report=print)))
    return client


def test_with_tokens_the_feed_is_the_tokens_viewers(with_tokens: TestClient) -> None:
    bearer = AS_OF | {"Authorization": signed(sub="u7")}
    assert with_tokens.get(FEED, headers=bearer).json()["user_id"] == "u7"
    assert with_tokens.get(FEED, params={"user_id": "u7"}, headers=bearer).status_code == 200


def test_another_viewers_feed_is_forbidden(with_tokens: TestClient) -> None:
    answer = with_tokens.get(FEED, params={"user_id": "u8"}, headers=AS_OF | {"Authorization": signed(sub="u7")})
    assert answer.status_code == 403
    assert answer.json() == {"error": "user_id='u8' is not allowed; allowed is the token's sub, or none"}


def test_without_a_token_or_with_a_bad_one_the_answer_says_how_to_ask(with_tokens: TestClient) -> None:
    missing = with_tokens.get(FEED, params={"user_id": "u7"})
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="livefeed"')
    bad = with_tokens.get(FEED, headers={"Authorization": signed(exp=NOW - 100)})
    assert (bad.status_code, bad.headers["www-authenticate"]) == (
        401, 'Bearer realm="livefeed", error="invalid_token"',
    )  # fmt: skip
    assert bad.json()["error"].startswith("the token has expired; allowed is ")


def test_health_needs_no_token(with_tokens: TestClient) -> None:
    assert with_tokens.get("/healthz").status_code == 200


def test_a_viewer_who_asks_too_often_is_told_when_to_ask_again(serve: Any) -> None:
    client = serve(Edge(limits=LimitConfig(viewer_per_s=0.001, burst_s=2000.0)))
    codes = [client.get(FEED, params={"user_id": "u1"}, headers=AS_OF).status_code for _ in range(3)]
    last = client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    assert codes == [200, 200, 429]
    assert 900 <= int(last.headers["retry-after"]) <= 1000
    assert last.json()["error"].startswith("this viewer asked more than 0.001 times a second; allowed again in ")
    assert client.get(FEED, params={"user_id": "u2"}, headers=AS_OF).status_code == 200


def test_an_address_that_asks_too_often_is_refused_whoever_it_asks_for(serve: Any) -> None:
    client = serve(Edge(limits=LimitConfig(address_per_s=0.001, burst_s=2000.0)))
    codes = [client.get(FEED, params={"user_id": f"u{n}"}, headers=AS_OF).status_code for n in range(3)]
    assert codes == [200, 200, 429]
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/nowhere"])
def test_an_address_may_ask_for_nothing_but_health_too_often(serve: Any, path: str) -> None:
    client = serve(Edge(limits=LimitConfig(address_per_s=0.001, burst_s=2000.0)))
    assert [client.get(path).status_code == 429 for _ in range(3)] == [False, False, True]
    assert client.get(FEED, params={"user_id": "u1"}, headers=AS_OF).status_code == 429
    assert [client.get(one).status_code == 429 for one in ("/healthz", "/readyz")] == [False, False]


def test_metrics_are_put_into_text_once_a_second_however_often_they_are_asked_for(
    serve: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    now, text = [1_000.0], proxy.parts.metrics.text
    monkeypatch.setattr(proxy.parts.metrics, "text", lambda: (made.append(1), text())[1])
    monkeypatch.setattr("serving.http.time.monotonic", lambda: now[0])
    client = serve(Edge())
    assert {client.get("/metrics").text.count("livefeed_feed_requests") > 0 for _ in range(5)} == {True}
    assert len(made) == 1
    now[0] += 1.1
    client.get("/metrics")
    assert len(made) == 2


class Stuck:
    """A pipeline that makes no feed until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()

    def page(self, request: FeedRequest, cursor: str | None, parts: Any) -> Feed:
        self.begun.release()
        assert self.go.wait(20.0)
        return recommend(request, parts)


def test_what_is_too_much_gets_what_trends_and_says_so(serve: Any, proxy: Proxy) -> None:
    stuck = Stuck()
    client = serve(Edge(pager=stuck, limits=LimitConfig(feeds_at_once=1)))
    with ThreadPoolExecutor(1) as other:
        first = other.submit(client.get, FEED, params={"user_id": "u1"}, headers=AS_OF)
        assert stuck.begun.acquire(timeout=20.0)
        shed = client.get(FEED, params={"user_id": "u2", "limit": 3}, headers=AS_OF)
        stuck.go.set()
        whole = first.result()
    assert (shed.status_code, shed.headers["x-livefeed-shed"]) == (200, "1")
    assert "overloaded" in shed.json()["degraded"]
    assert len(shed.json()["items"]) == 3
    assert (whole.status_code, whole.headers.get("x-livefeed-shed")) == (200, None)
    assert 'livefeed_feed_requests_total{outcome="shed"} 1.0' in client.get("/metrics").text


def test_a_later_page_that_is_shed_repeats_nothing(serve: Any) -> None:
    stuck = Stuck()
    first = serve(Edge()).get(FEED, params={"user_id": "u2", "limit": 3}, headers=AS_OF).json()
    client = serve(Edge(pager=stuck, limits=LimitConfig(feeds_at_once=1)))
    with ThreadPoolExecutor(1) as other:
        busy = other.submit(client.get, FEED, params={"user_id": "u1"}, headers=AS_OF)
        assert stuck.begun.acquire(timeout=20.0)
        query = {"user_id": "u2", "limit": 3, "cursor": first["next_cursor"]}
        shed = client.get(FEED, params=query, headers=AS_OF).json()
        stuck.go.set()
        busy.result()
    assert {item["item_id"] for item in first["items"]} & {item["item_id"] for item in shed["items"]} == set()
    assert [item["rank"] for item in shed["items"]] == [4, 5, 6]


def test_when_even_shedding_is_too_much_the_answer_says_when_to_ask_again(serve: Any) -> None:
    client = serve(Edge(limits=LimitConfig(feeds_at_once=1, shed_at_once=0), pager=(stuck := Stuck())))
    with ThreadPoolExecutor(1) as other:
        first = other.submit(client.get, FEED, params={"user_id": "u1"}, headers=AS_OF)
        assert stuck.begun.acquire(timeout=20.0)
        refused = client.get(FEED, params={"user_id": "u2"}, headers=AS_OF)
        stuck.go.set()
        first.result()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert client.get(FEED, params={"user_id": "u2"}, headers=AS_OF).status_code == 200
