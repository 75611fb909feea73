"""The HTTP face of the proxy: the feed, health, readiness and metrics. Every error is `{"error": "one sentence"}`."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal
from uuid import uuid4

import orjson
import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from msgspec import to_builtins
from starlette.exceptions import HTTPException

from serving.attempt import FeedParts
from serving.errors import BadRequest
from serving.pipeline import recommend
from serving.proxy_clock import ProxyClock
from serving.query import BAD_EXAMPLE, EXAMPLE, NOW_HEADER, FeedQuery, parse

FEED = "/api/v1/content/feed"
_log = structlog.get_logger()
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The feed.", "content": {"application/json": {"example": EXAMPLE}}},
    400: {
        "description": "A field or value that is not allowed.",
        "content": {"application/json": {"example": BAD_EXAMPLE}},
    },
}


def json_response(body: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")


def create_app(parts: FeedParts, clock: ProxyClock) -> FastAPI:
    """The application over parts that the caller starts and stops."""
    app = FastAPI(title="Livefeed", version="1", description="Live rooms and media in one ranked feed.")

    @app.get(FEED, responses=_RESPONSES, summary="A viewer's feed, best first")
    def feed(request: Request, query: Annotated[FeedQuery, Query()]) -> Response:
        """Rooms that are live now and published media for one viewer; `degraded` says what the answer had to do without."""
        header = request.headers.get(NOW_HEADER) if clock.follows_requests else None
        try:
            asked = parse(query.model_dump(exclude_unset=True), header, request_id=uuid4().hex, wall=clock.now)
            clock.saw(asked.now)
            if clock.follows_requests:
                parts.background.catch_up(asked.now)
            answer = recommend(asked, parts)
        except BadRequest as error:
            parts.metrics.requests.labels("refused").inc()
            return json_response({"error": str(error)}, 400)
        parts.metrics.requests.labels("degraded" if answer.degraded else "ok").inc()
        return json_response(to_builtins(answer))

    @app.get("/healthz", summary="Whether the process lives")
    def healthz() -> Response:
        """200 as soon as requests are answered, in whatever state the parts are."""
        return json_response({"status": "ok"})

    @app.get("/readyz", summary="Whether the answers are whole")
    def readyz() -> Response:
        """200 when catalogue, release, model server and log answer, else 503 with what is wrong; names the release in use."""
        troubles, retrieval = troubles_of(parts), parts.background.retrieval
        release = retrieval.release.name if retrieval else "none"
        body = {"ready": not troubles, "release": release, "troubles": troubles}
        return json_response(body, 503 if troubles else 200)

    @app.get("/metrics", summary="Prometheus metrics")
    def metrics() -> Response:
        """The exposition format."""
        return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4")

    _errors(app, parts)
    return app


def troubles_of(parts: FeedParts) -> dict[Literal["features", "release", "model", "impressions"], str]:
    """What keeps answers from being whole, in one sentence each."""
    background = parts.background
    release = background.releases.refused or ("" if background.retrieval else "no release is in traffic")
    found: dict[Literal["features", "release", "model", "impressions"], str] = {
        "features": background.store_trouble or parts.store_breaker.trouble,
        "release": release,
        "model": background.model_trouble or parts.model_breaker.trouble,
        "impressions": parts.impressions.trouble,
    }
    return {name: trouble for name, trouble in found.items() if trouble}


def _errors(app: FastAPI, parts: FeedParts) -> None:
    """One table from error to answer; nothing else leaves the proxy."""

    async def not_found(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 405:
            return json_response({"error": f"{request.method} {request.url.path} is not allowed; allowed is GET"}, 405)
        sentence = f"no such path {request.url.path!r}; allowed are {FEED}, /healthz, /readyz, /metrics"
        return json_response({"error": sentence}, 404)

    async def malformed(_: Request, error: Exception) -> Response:
        parts.metrics.requests.labels("refused").inc()
        first = (
            error.errors()[0] if isinstance(error, RequestValidationError) else {"loc": ("request",), "msg": str(error)}
        )
        return json_response({"error": f"{first['loc'][-1]} is not allowed: {first['msg']}"}, 400)

    @app.middleware("http")
    async def one_sentence(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            return await call(request)
        except Exception as error:  # noqa: BLE001  the outermost boundary: no traceback may reach a client
            parts.metrics.requests.labels("error").inc()
            _log.error("request failed", path=request.url.path, error=repr(error), exc_info=True)
            return json_response({"error": "the feed could not be made; the proxy's log has the reason"}, 500)

    app.add_exception_handler(HTTPException, not_found)
    app.add_exception_handler(RequestValidationError, malformed)
