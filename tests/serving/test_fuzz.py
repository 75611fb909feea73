"""The API against its own document: whatever is asked, the answer is one the document lists, and valid as it says."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from serving.http import create_app
from serving.openapi import FEED, document
from serving.query import PARAMETERS
from tests.serving.small_world import NOW, SmallWorld

AS_OF = {"X-Livefeed-Now": str(NOW)}
DOCUMENT = document(tokens=False, follows_requests=True)
RESPONSES = DOCUMENT["paths"][FEED]["get"]["responses"]
QUIETLY = settings(deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    world = SmallWorld(tmp_path_factory.mktemp("world")).fill()
    world.release()
    proxy = world.proxy()
    with TestClient(create_app(proxy.parts, proxy.clock), raise_server_exceptions=False) as client:
        yield client


@cache
def validator(status: int) -> Draft202012Validator:
    schema = RESPONSES[str(status)]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def checked(client: TestClient, query: Any, headers: dict[str, str] = AS_OF) -> int:
    """The status of an answer that is as the document says."""
    if isinstance(query, str):
        answer = client.get(f"{FEED}?{query}", headers=headers)
    else:
        answer = client.get(FEED, params=query, headers=headers)
    assert str(answer.status_code) in RESPONSES
    assert answer.status_code < 500
    validator(answer.status_code).validate(answer.json())
    assert answer.headers["content-type"] == "application/json"
    for name in RESPONSES[str(answer.status_code)]["headers"]:
        assert name in answer.headers or name == "X-Livefeed-Shed"
    return answer.status_code


def allowed(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values that a parameter's schema takes, as the query string spells them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema["type"] == "integer":
        return st.integers(schema["minimum"], schema["maximum"]).map(str)
    if schema["type"] == "number":
        return st.floats(schema["minimum"], schema["maximum"]).map(repr)
    texts = st.from_regex(schema["pattern"], fullmatch=True)
    least, most = schema.get("minLength", 1), schema["maxLength"]
    return texts.filter(lambda text: least <= len(text) <= most and text.isprintable())


def refused(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values that it does not take."""
    if "enum" in schema:
        return st.text(max_size=12).filter(lambda text: text not in schema["enum"])
    if schema["type"] in ("integer", "number"):
        outside = st.integers(max_value=schema["minimum"] - 1) | st.integers(min_value=schema["maximum"] + 1)
        words = st.sampled_from(
            ["", "nan", "inf", "-inf", "1e999", "0x1", "1_0", "٣", " 1", "1 ", "--1", "null", "true"]
        )
        return outside.map(str) | words
    long = st.integers(schema["maxLength"] + 1, schema["maxLength"] + 9).map(lambda size: "a" * size)
    return long | st.text("\x00\x01\n\x1f", min_size=1, max_size=3)


FREE = [name for name in PARAMETERS if name not in ("user_id", "context_item_id", "cursor")]
ALLOWED = st.fixed_dictionaries(
    {"user_id": allowed(PARAMETERS["user_id"].schema)},
    optional={name: allowed(PARAMETERS[name].schema) for name in FREE}
    | {"context_item_id": st.sampled_from(["m3", "m29", "r1"])},
)
ONE_REFUSED = st.sampled_from(list(PARAMETERS)).flatmap(
    lambda name: st.tuples(ALLOWED, st.just(name), refused(PARAMETERS[name].schema))
)


@QUIETLY
@given(query=ALLOWED)
def test_what_the_document_allows_is_answered(client: TestClient, query: dict[str, str]) -> None:
    assert checked(client, query) == 200


@QUIETLY
@given(case=ONE_REFUSED)
def test_what_the_document_does_not_allow_is_refused_and_named(
    client: TestClient, case: tuple[dict[str, str], str, str]
) -> None:
    query, name, value = case
    assert checked(client, query | {name: value}) == 400
    assert client.get(FEED, params=query | {name: value}, headers=AS_OF).json()["error"].startswith(f"{name}=")


@QUIETLY
@given(query=ALLOWED, cursor=allowed(PARAMETERS["cursor"].schema), first=st.integers(1, 20))
def test_a_cursor_is_ours_or_refused(client: TestClient, query: dict[str, str], cursor: str, first: int) -> None:
    assert checked(client, query | {"cursor": cursor}) == 400
    made = client.get(FEED, params=query | {"limit": str(first)}, headers=AS_OF).json()["next_cursor"]
    if made is not None:
        assert checked(client, query | {"cursor": made}) == 200


RAW = st.lists(
    st.sampled_from(
        ["user_id", "limit", "cursor", "=", "&", "%", "%00", "%ff", "%ed%a0%80", "+", ";", "u1", "10", "a[]"]
    )
    | st.text(max_size=4).map(lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))),
    max_size=12,
).map("".join)


@QUIETLY
@given(raw=RAW)
def test_any_query_string_gets_an_answer_of_the_document(client: TestClient, raw: str) -> None:
    assert checked(client, raw) in (200, 400)


@QUIETLY
@given(value=st.binary(max_size=40))
def test_any_time_in_the_header_gets_an_answer_of_the_document(client: TestClient, value: bytes) -> None:
    shown = value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1").encode("latin-1")
    answer = client.get(FEED, params={"user_id": "u"}, headers={b"X-Livefeed-Now": shown})
    assert answer.status_code in (200, 400)
    validator(answer.status_code).validate(answer.json())


@QUIETLY
@given(path=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"]))
def test_any_path_and_method_gets_a_sentence(client: TestClient, path: str, method: str) -> None:
    coded = "".join(f"%{byte:02x}" for byte in path.encode("utf-8", "surrogatepass"))
    answer = client.request(method, f"/api/{coded}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error"}
    assert answer.json()["error"].isprintable()
