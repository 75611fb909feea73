"""The feed over HTTP: its JSON, and one sentence for everything that is wrong with a request."""

import string
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from serving.http import FEED, create_app
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld

AS_OF = {"X-Livefeed-Now": str(NOW)}


@pytest.fixture
def proxy(world: SmallWorld) -> Proxy:
    world.release()
    return world.proxy()


@pytest.fixture
def client(proxy: Proxy) -> Iterator[TestClient]:
    with TestClient(create_app(proxy.parts, proxy.clock), raise_server_exceptions=False) as client:
        yield client


def test_a_feed_has_the_documented_form(client: TestClient) -> None:
    answer = client.get(FEED, params={"user_id": "u1", "limit": 3}, headers=AS_OF)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {
        "request_id", "user_id", "surface", "release", "model_version", "arm", "degraded", "features_age", "items",
        "next_cursor",
    }  # fmt: skip
    assert set(body["items"][0]) == {
        "item_id", "content_type", "creator_id", "title", "category", "position", "score", "scores", "source", "live",
        "status", "rank",
    }  # fmt: skip
    assert [(item["position"], item["rank"]) for item in body["items"]] == [(0, 1), (1, 2), (2, 3)]
    example = client.get("/openapi.json").json()["paths"][FEED]["get"]["responses"]["200"]["content"][
        "application/json"
    ]
    assert set(example["example"]) == set(body)
    assert set(example["example"]["items"][0]) == set(body["items"][0])


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"limit": "3"}, "user_id is missing; allowed is an id of 1 to 128 characters"),
        ({"user_id": ""}, "user_id='' is not allowed; allowed is an id of 1 to 128 printable characters"),
        ({"user_id": "u", "limit": "-1"}, "limit='-1' is not allowed; allowed is a whole number from 1 to 100"),
        ({"user_id": "u", "limit": "101"}, "limit='101' is not allowed; allowed is a whole number from 1 to 100"),
        ({"user_id": "u", "limit": "1.5"}, "limit='1.5' is not allowed; allowed is a whole number from 1 to 100"),
        ({"user_id": "u", "limit": " 1"}, "limit=' 1' is not allowed; allowed is a whole number from 1 to 100"),
        (
            {"user_id": "u", "limit": "9" * 5000},
            f"limit='{'9' * 64}…' is not allowed; allowed is a whole number from 1 to 100",
        ),
        (
            {"user_id": "u", "surface": "moon"},
            "surface='moon' is not allowed; allowed is one of home, playback, comment",
        ),
        (
            {"user_id": "u", "content_type": "BOOK"},
            "content_type='BOOK' is not allowed; allowed is one of VIDEO, AUDIO, LIVE",
        ),
        ({"user_id": "u", "diversity": "nan"}, "diversity='nan' is not allowed; allowed is a number from 0 to 1"),
        (
            {"user_id": "u", "limits": "3"},
            "unknown parameter 'limits'; allowed are user_id, surface, content_type, context_item_id, limit, diversity, "
            "cursor, locale",
        ),
        ({"user_id": "u", "diversity": "0_1"}, "diversity='0_1' is not allowed; allowed is a number from 0 to 1"),
        ({"user_id": "u", "locale": "pt_BR"}, "locale='pt_BR' is not allowed; allowed is a BCP 47 tag such as pt-BR"),
        (
            {"user_id": "u", "cursor": "a+b"},
            "cursor='a+b' is not allowed; allowed is the next_cursor of this feed's last page",
        ),
        (
            {"user_id": "u", "cursor": "AVvL"},
            "cursor='AVvL…' is not allowed; allowed is the next_cursor of this feed's last page, at most 1800 s old; "
            "without one a new feed begins",
        ),
        (
            {"user_id": "u", "context_item_id": "m99"},
            "context_item_id='m99' is in no table; allowed is the id of a published item or an opened room",
        ),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(client: TestClient, query: dict[str, str], sentence: str) -> None:
    answer = client.get(FEED, params=query, headers=AS_OF)
    assert (answer.status_code, answer.json()) == (400, {"error": sentence})


def refusal(client: TestClient, path: str, **more: Any) -> tuple[int, str]:
    answer = client.request(more.pop("method", "GET"), path, **more)
    assert set(answer.json()) == {"error"}
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("user_id=u&user_id=v", "user_id='v' is not allowed after user_id='u'; allowed is one"),
        ("user_id=%ff", "the query string is not UTF-8; allowed is percent-encoded UTF-8"),
        ("&".join(["user_id=u"] * 33), "the query string has over 32 parameters; allowed is each at most once"),
    ],
)
def test_a_query_string_that_says_two_things_or_nothing_readable_is_refused(
    client: TestClient, query: str, sentence: str
) -> None:
    assert refusal(client, f"{FEED}?{query}", headers=AS_OF) == (400, sentence)


def test_what_is_too_long_is_refused_before_it_is_looked_at(client: TestClient) -> None:
    status, sentence = refusal(client, f"{FEED}?user_id={'u' * 9000}")
    assert (status, sentence.partition(";")[2]) == (414, " allowed are 8192")
    assert refusal(client, FEED, headers={"X-Long": "x" * 17_000})[0] == 431
    assert refusal(client, FEED, headers={f"X-{n}": "x" for n in range(65)})[0] == 431


def test_a_request_with_a_body_is_refused(client: TestClient) -> None:
    body_refused = (400, "the request has a body; allowed is none")
    assert refusal(client, f"{FEED}?user_id=u", content=b"{}") == body_refused
    assert refusal(client, f"{FEED}?user_id=u", content=iter([b"{}"])) == body_refused


def test_a_header_that_is_there_twice_is_refused(client: TestClient) -> None:
    twice = [("X-Livefeed-Now", str(NOW)), ("X-Livefeed-Now", str(NOW + 60))]
    assert refusal(client, f"{FEED}?user_id=u", headers=twice) == (
        400, "the header x-livefeed-now is there 2 times; allowed is once",
    )  # fmt: skip


def test_an_answer_says_which_request_release_and_arm_it_is_of(client: TestClient) -> None:
    answer = client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    body = answer.json()
    assert (answer.headers["x-request-id"], answer.headers["x-livefeed-release"], answer.headers["x-livefeed-arm"]) == (
        body["request_id"], "demo-1", "stable",
    )  # fmt: skip
    assert len(client.get("/nothing").headers["x-request-id"]) == 32


def test_pages_follow_each_other_to_the_end_without_repeats_or_gaps(client: TestClient) -> None:
    ids, ranks, cursor = list[str](), list[int](), None
    while True:
        page = {"cursor": cursor} if cursor else {}
        body = client.get(FEED, params={"user_id": "u1", "limit": 7, **page}, headers=AS_OF).json()
        ids += [item["item_id"] for item in body["items"]]
        ranks += [item["rank"] for item in body["items"]]
        cursor = body["next_cursor"]
        if cursor is None:
            break
    assert ranks == list(range(1, len(ids) + 1))
    assert len(set(ids)) == len(ids) == 33


def test_a_cursor_with_another_viewer_names_the_viewer(client: TestClient) -> None:
    cursor = client.get(FEED, params={"user_id": "u1", "limit": 3}, headers=AS_OF).json()["next_cursor"]
    assert refusal(client, FEED, params={"user_id": "u2", "cursor": cursor}, headers=AS_OF) == (
        400, "user_id='u2' is not allowed with this cursor; allowed is what its first page asked for",
    )  # fmt: skip


@pytest.mark.parametrize("now", ["soon", "nan", "-1", "1e300", ""])
def test_a_bad_time_is_refused_where_requests_say_the_time(client: TestClient, now: str) -> None:
    answer = client.get(FEED, params={"user_id": "u"}, headers={"X-Livefeed-Now": now})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(
        f"X-Livefeed-Now={now!r} is not allowed; allowed is epoch seconds from 0 to"
    )


def test_where_the_wall_clock_rules_the_header_is_ignored(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy(follows_requests=False)
    with TestClient(create_app(proxy.parts, proxy.clock)) as client:
        answer = client.get(FEED, params={"user_id": "u"}, headers={"X-Livefeed-Now": "soon"})
    assert answer.status_code == 200


def test_the_requests_time_is_the_feeds_now(client: TestClient) -> None:
    def rooms(now: float) -> int:
        body = client.get(FEED, params={"user_id": "u", "limit": 50}, headers={"X-Livefeed-Now": str(now)}).json()
        return sum(item["live"] for item in body["items"])

    assert (rooms(NOW), rooms(NOW + 91)) == (3, 0)


def test_a_request_that_leaps_ahead_is_answered_with_what_was_published_before_it(
    proxy: Proxy, client: TestClient, world: SmallWorld
) -> None:
    """In a time lapse the next request may be minutes later, and the background's next look comes too late for it."""
    client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    world.publish("leapt", creator="somebody", at=NOW + 5.0)
    client.get(FEED, params={"user_id": "u1"}, headers={"X-Livefeed-Now": str(NOW + 6.0)})
    assert "leapt" not in proxy.parts.catalogue.view.items
    client.get(FEED, params={"user_id": "u1"}, headers={"X-Livefeed-Now": str(NOW + 100.0)})
    assert "leapt" in proxy.parts.catalogue.view.items


def test_other_paths_and_methods_get_a_sentence_too(client: TestClient) -> None:
    assert client.get("/api/v1/nothing").status_code == 404
    assert client.get("/api/v1/nothing").json()["error"].startswith("no such path '/api/v1/nothing'; allowed are ")
    assert client.post(FEED).status_code == 405
    assert client.post(FEED).json() == {"error": f"POST {FEED} is not allowed; allowed is GET"}
    assert client.delete("/metrics").headers["allow"] == "GET"
    assert client.head(FEED).status_code == 405


def test_a_fault_of_our_own_is_a_500_without_a_traceback(
    client: TestClient, world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.models, "embed_user", lambda *_, **__: 1 / 0)
    answer = client.get(FEED, params={"user_id": "u"}, headers=AS_OF)
    assert answer.status_code == 500
    assert answer.json() == {"error": "the feed could not be made; the proxy's log has the reason"}


def test_health_readiness_and_metrics(client: TestClient, world: SmallWorld) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"ready": True, "release": "demo-1", "troubles": {}}
    client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    world.models.down = True
    client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    client.get(FEED, params={"user_id": "u1", "limit": 0}, headers=AS_OF)
    world.models.down = False
    text = client.get("/metrics").text
    for line in (
        'livefeed_feed_requests_total{outcome="ok"} 1.0',
        'livefeed_feed_requests_total{outcome="degraded"} 1.0',
        'livefeed_feed_requests_total{outcome="refused"} 1.0',
        'livefeed_feed_degraded_total{reason="model_unavailable"} 1.0',
        'livefeed_feed_stage_seconds_count{stage="rank"} 2.0',
        "livefeed_catalogue_items 33.0",
    ):
        assert line in text


def test_a_model_server_that_failed_the_last_feed_is_not_ready(client: TestClient, world: SmallWorld) -> None:
    world.models.down = True
    client.get(FEED, params={"user_id": "u1"}, headers=AS_OF)
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["troubles"]) == (503, {"model": "the model server does not answer"})


def test_without_a_release_the_proxy_answers_but_is_not_ready(world: SmallWorld) -> None:
    proxy = world.proxy()
    with TestClient(create_app(proxy.parts, proxy.clock)) as client:
        assert client.get(FEED, params={"user_id": "u"}, headers=AS_OF).status_code == 200
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["troubles"]) == (503, {"release": "no release is in traffic"})
    assert ready.json()["release"] == "none"


NAMES = st.sampled_from(
    ["user_id", "surface", "content_type", "context_item_id", "limit", "diversity", "x", "user_id "]
)
VALUES = st.one_of(
    st.sampled_from(
        ["u1", "home", "VIDEO", "LIVE", "m3", "10", "0.5", "100", "", "-0", "1e9", "inf", "null", "²", "\x00"]
    ),
    st.text(max_size=12),
    st.text(string.printable, max_size=200),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_any_query_string_gets_a_feed_or_a_sentence(client: TestClient, query: list[tuple[str, str]]) -> None:
    pairs = [(name, value.encode("utf-8", "replace").decode()) for name, value in query]
    answer = client.get(FEED, params=pairs, headers=AS_OF)
    if answer.status_code == 200:
        assert "items" in answer.json()
    else:
        assert 400 <= answer.status_code < 500
        assert set(answer.json()) == {"error"}
        assert "\n" not in answer.json()["error"]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.text("abcdefuserid_=&%;+\\0123456789ÿ/?", max_size=60))
def test_any_raw_query_gets_a_feed_or_a_sentence(client: TestClient, raw: str) -> None:
    answer = client.get(f"{FEED}?{raw}", headers=AS_OF)
    assert answer.status_code in (200, 400)
