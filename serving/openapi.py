"""The OpenAPI document: made from the parameters the parser reads and the types the answers are written from."""

from typing import Any

from msgspec.json import schema_components

from events.schema import ContentType, Surface
from serving.feed import DEGRADATIONS, Feed
from serving.query import EARLIEST_S, LATEST_S, NOW_HEADER, PARAMETERS

FEED = "/api/v1/content/feed"
PATHS = (FEED, "/healthz", "/readyz", "/metrics", "/openapi.json")
REF = "#/components/schemas/{name}"

EXAMPLE: dict[str, Any] = {
    "request_id": "5f2b9c0e7d1a4c3f8a6b1d2e3f405162", "user_id": "u42", "surface": "home", "release": "demo-3",
    "model_version": 3, "arm": "stable", "degraded": [], "features_age": {},
    "items": [{
        "item_id": "room-17", "content_type": "LIVE", "creator_id": "h5", "title": "Late night jazz", "category": "music",
        "position": 0, "score": 1.31, "scores": {"click": 0.62, "completion": 0.44, "like": 0.25}, "source": "followed",
        "live": True, "status": "song", "rank": 1,
    }],
    "next_cursor": "AVvLzr1xT2yCk0mQ",
}  # fmt: skip
_TIME: dict[str, Any] = {
    "name": NOW_HEADER, "in": "header", "required": False, "example": 1_800_000_000.0,
    "description": "Epoch seconds that are now; without it the wall clock's.",
    "schema": {"type": "number", "minimum": EARLIEST_S, "maximum": LATEST_S},
}  # fmt: skip
_ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {"type": "string", "description": "One sentence: what was wrong, which value, what is allowed."}
    },
}
_ERRORS: dict[str, tuple[str, str]] = {
    "400": (
        "A field, value, header or body that is not allowed.",
        "limit='-1' is not allowed; allowed is a whole number from 1 to 100",
    ),
    "401": (
        "No token, or one that does not show who is asking; only where tokens are asked for.",
        "the token has expired; allowed is a token signed with HS256, RS256, ES256 by a known key, with sub and exp",
    ),
    "403": (
        "The feed of another viewer than the token's; only where tokens are asked for.",
        "user_id='u7' is not allowed; allowed is the token's sub, or none",
    ),
    "405": ("Another method.", f"POST {FEED} is not allowed; allowed is GET"),
    "414": ("A URL that is too long.", "the URL has 9000 bytes; allowed are 8192"),
    "429": ("Asked too often.", "this viewer asked more than 100 times a second; allowed again in 1 s"),
    "431": (
        "Too many headers, or too long ones.",
        "the request has 65 headers of 900 bytes; allowed are 64 headers of 16384 bytes together",
    ),
    "500": ("A fault of the proxy's own.", "the feed could not be made; the proxy's log has the reason"),
    "503": ("More feeds under way than can be shed.", "the proxy has more feeds under way than it can make; ask again"),
}
_REQUEST_ID = {"description": "The request's id.", "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}}
_HEADERS: dict[str, dict[str, Any]] = {
    "401": {"WWW-Authenticate": {"description": "The scheme, RFC 6750.", "schema": {"type": "string"}}},
    "405": {"Allow": {"description": "The methods there are.", "schema": {"type": "string"}}},
    "429": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
    "503": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}},
}
_FEED_HEADERS: dict[str, Any] = {
    "X-Request-Id": {**_REQUEST_ID, "description": "The same as `request_id`."},
    "X-Livefeed-Release": {"description": "The release that answered, or none.", "schema": {"type": "string"}},
    "X-Livefeed-Arm": {"description": "The arm of the experiment she is in.", "schema": {"type": "string"}},
    "X-Livefeed-Shed": {
        "description": "There, and 1, when the proxy had too much to do and answered with what trends.",
        "schema": {"type": "string", "enum": ["1"]},
    },
}


def document(*, tokens: bool, follows_requests: bool) -> dict[str, Any]:
    """The document; `tokens` says whether viewers have to show one, `follows_requests` whether a header is their now."""
    components: dict[str, Any] = {"schemas": _schemas()}
    feed = _feed_operation()
    if follows_requests:
        feed["parameters"].append(_TIME)
    if tokens:
        components["securitySchemes"] = {"viewer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
        feed["security"] = [{"viewer": []}]
    else:
        feed["parameters"][0]["required"] = True
        feed["responses"] = {code: one for code, one in feed["responses"].items() if code not in ("401", "403")}
    paths = {FEED: {"get": feed}, "/healthz": {"get": _healthz()}, "/readyz": {"get": _readyz()}}
    paths |= {"/metrics": {"get": _metrics()}, "/openapi.json": {"get": _openapi()}}
    info = {"title": "Livefeed", "version": "1", "description": "Live rooms and media in one ranked feed."}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components}


def _feed_operation() -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "query", "required": False, "description": one.description, "schema": one.schema,
         "example": one.example}
        for name, one in PARAMETERS.items()
    ]  # fmt: skip
    ok = {
        "description": "The feed, best first; `degraded` says what it had to do without.",
        "headers": _FEED_HEADERS,
        "content": {"application/json": {"schema": {"$ref": REF.format(name="Feed")}, "example": EXAMPLE}},
    }
    return {
        "summary": "A viewer's feed, best first",
        "description": "Rooms that are live now and published media for one viewer, page by page.",
        "operationId": "feed",
        "parameters": parameters,
        "responses": {"200": ok} | {code: _error(code) for code in _ERRORS},
    }


def _error(code: str) -> dict[str, Any]:
    description, sentence = _ERRORS[code]
    content = {"schema": {"$ref": REF.format(name="Error")}, "example": {"error": sentence}}
    return {
        "description": description,
        "headers": {"X-Request-Id": _REQUEST_ID} | _HEADERS.get(code, {}),
        "content": {"application/json": content},
    }


def _refusals(*, limited: bool = False) -> dict[str, Any]:
    """What every path may answer before it is looked at, those that are `limited` an address that asks too often."""
    return {code: _error(code) for code in ("400", "405", "414", "431", "500", *(("429",) if limited else ()))}


def _json(description: str, schema: dict[str, Any], example: Any) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}


def _healthz() -> dict[str, Any]:
    schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
    ok = _json("The process answers, in whatever state the parts are.", schema, {"status": "ok"})
    return {"summary": "Whether the process lives", "operationId": "healthz", "responses": {"200": ok} | _refusals()}


def _readyz() -> dict[str, Any]:
    ready, not_ready = _readiness(ready=True), _readiness(ready=False)
    good = {"ready": True, "release": "demo-3", "troubles": {}}
    bad = {"ready": False, "release": "none", "troubles": {"release": "no release is in traffic"}}
    responses = {
        "200": _json("Answers are whole.", ready, good),
        "503": _json("What is wrong, by part.", not_ready, bad),
    }
    return {"summary": "Whether the answers are whole", "operationId": "readyz", "responses": responses | _refusals()}


def _readiness(*, ready: bool) -> dict[str, Any]:
    parts = ("features", "release", "model", "impressions")
    troubles = {
        "type": "object",
        "properties": {part: {"type": "string"} for part in parts},
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "required": ["ready", "release", "troubles"],
        "additionalProperties": False,
        "properties": {"ready": {"const": ready}, "release": {"type": "string"}, "troubles": troubles},
    }


def _metrics() -> dict[str, Any]:
    text = {"text/plain": {"schema": {"type": "string"}, "example": 'livefeed_feed_requests_total{outcome="ok"} 1.0\n'}}
    ok = {"description": "The exposition format.", "content": text}
    return {
        "summary": "Prometheus metrics",
        "operationId": "metrics",
        "responses": {"200": ok} | _refusals(limited=True),
    }


def _openapi() -> dict[str, Any]:
    ok = _json("This document.", {"type": "object"}, {"openapi": "3.1.0"})
    return {"summary": "This document", "operationId": "openapi", "responses": {"200": ok} | _refusals(limited=True)}


def _schemas() -> dict[str, Any]:
    """The answers' types; every field is always written, so every field is required."""
    _, schemas = schema_components([Feed], ref_template=REF)
    for schema in schemas.values():
        schema["required"] = list(schema["properties"])
        schema["additionalProperties"] = False
    feed, item = schemas["Feed"]["properties"], schemas["FeedItem"]["properties"]
    feed["surface"]["enum"] = [str(one) for one in Surface]
    feed["degraded"]["items"]["enum"] = list(DEGRADATIONS)
    feed["degraded"]["description"] = "; ".join(f"{reason}: {what}" for reason, what in DEGRADATIONS.items())
    item["content_type"]["enum"] = [str(one) for one in ContentType]
    item["position"]["minimum"], item["rank"]["minimum"] = 0, 1
    return {**schemas, "Error": _ERROR_SCHEMA}
