"""The HTTP face of the proxy: the feed, health, readiness and metrics. Every error is `{"error": "one sentence"}`.

A thin ASGI application: measured, it costs a request a third of what the same answer through a web framework does.
"""

import asyncio
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from uuid import uuid4

import structlog

from serving.answers import Answer, App, Receive, Scope, Send, as_json, error, live, send_answer
from serving.attempt import FeedParts
from serving.cursor import KEY_BYTES, Signer
from serving.errors import BadRequest, TokenRefused, WrongViewer
from serving.feed import STABLE, Feed
from serving.limits import Gate, LimitConfig, Rates
from serving.openapi import FEED, PATHS, document
from serving.paging import Fresh, Pager
from serving.pipeline import recommend, shed
from serving.proxy_clock import ProxyClock
from serving.query import NOW_HEADER, Asked, fields, parse
from serving.tokens import Tokens

SHED_THREADS = 2
UNLIMITED = ("/healthz", "/readyz")  # a balancer's questions, which may come from the address of a thousand viewers
METRICS_S = 1.0  # how old the text of /metrics may be
_log = structlog.get_logger()


@cache
def _own_signer() -> Signer:
    """Of cursors that only this process reads."""
    return Signer(secrets.token_bytes(KEY_BYTES))


@dataclass(frozen=True)
class Edge:
    """What stands between a request and the pipeline."""

    pager: Pager = field(default_factory=lambda: Fresh(recommend, _own_signer()))
    shed: Pager = field(default_factory=lambda: Fresh(shed, _own_signer()))  # for what is too much
    tokens: Tokens | None = None  # None: viewers are who they say they are
    limits: LimitConfig = field(default_factory=LimitConfig)


def create_app(parts: FeedParts, clock: ProxyClock, *, edge: Edge | None = None) -> App:
    """The ASGI application over parts that the caller starts and stops."""
    proxy = _Proxy(parts, clock, edge or Edge())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "http":
            await send_answer(await proxy.answer(scope), send)

    return app


class _Proxy:
    """Answers requests; its methods run on the event loop but for `_make`, which runs in a thread."""

    def __init__(self, parts: FeedParts, clock: ProxyClock, edge: Edge) -> None:
        self._parts, self._clock, self._edge = parts, clock, edge
        limits = edge.limits
        self._limits = limits
        self._viewers = Rates(limits.viewer_per_s, limits.viewer_per_s * limits.burst_s)
        self._addresses = Rates(limits.address_per_s, limits.address_per_s * limits.burst_s)
        self._gate, self._shed_gate = Gate(limits.feeds_at_once), Gate(limits.shed_at_once)
        self._threads = ThreadPoolExecutor(limits.feeds_at_once, thread_name_prefix="feed")
        self._metrics, self._measured_until = Answer(body=b""), 0.0
        self._shed_threads = ThreadPoolExecutor(SHED_THREADS, thread_name_prefix="shed")
        self._document = as_json(document(tokens=edge.tokens is not None, follows_requests=clock.follows_requests))

    async def answer(self, scope: Scope) -> Answer:
        """One table from error to answer; nothing else leaves the proxy."""
        request_id = uuid4().hex
        try:
            answer = _malformed(scope, self._limits) or await self._route(scope, request_id)
        except BadRequest as refused:
            answer = error(str(refused), 400)
        except TokenRefused as refused:
            answer = error(str(refused), 401, headers=(("www-authenticate", _challenge(given=refused.given)),))
        except WrongViewer as refused:
            answer = error(str(refused), 403)
        except Exception as failure:  # noqa: BLE001  the outermost boundary: no traceback may reach a client
            self._parts.metrics.requests.labels("error").inc()
            _log.error("request failed", request_id=request_id, path=scope["path"], error=repr(failure), exc_info=True)
            answer = error("the feed could not be made; the proxy's log has the reason", 500)
        if 400 <= answer.status < 500:
            self._parts.metrics.requests.labels("limited" if answer.status == 429 else "refused").inc()
        return _with(answer, ("x-request-id", request_id))

    async def _route(self, scope: Scope, request_id: str) -> Answer:
        path, method = scope["path"], scope["method"]
        address = (scope.get("client") or ("", 0))[0]
        if path not in UNLIMITED and (wait := self._addresses.wait_s(address)):
            return _later(f"{address} asked more than {self._limits.address_per_s:g} times a second", wait)
        if path not in PATHS:
            return error(f"no such path {path[:128]!r}; allowed are {', '.join(PATHS)}", 404)
        if method != "GET":
            sentence = f"{method} {path} is not allowed; allowed is GET"
            return error(sentence, 405, headers=(("allow", "GET"), ("connection", "close")))
        if path == FEED:
            return await self._feed(scope, request_id)
        if path == "/healthz":
            return as_json({"status": "ok"})
        if path == "/readyz":
            return self._readyz()
        if path == "/metrics":
            return self._measured()
        return self._document

    def _measured(self) -> Answer:
        """The metrics as they were at most METRICS_S ago: who asks for them all the time must not hold up feeds."""
        if time.monotonic() >= self._measured_until:
            text = self._parts.metrics.text()
            self._metrics = Answer(body=text, media_type="text/plain; version=0.0.4; charset=utf-8")
            self._measured_until = time.monotonic() + METRICS_S
        return self._metrics

    async def _feed(self, scope: Scope, request_id: str) -> Answer:
        viewer = None if self._edge.tokens is None else self._edge.tokens.viewer(_header(scope, b"authorization"))
        given = fields(scope["query_string"])
        if viewer is not None and given.get("user_id", viewer) != viewer:
            raise WrongViewer(f"user_id={given['user_id'][:64]!r} is not allowed; allowed is the token's sub, or none")
        header = _header(scope, NOW_HEADER.lower().encode()) if self._clock.follows_requests else None
        asked = parse(given, header, request_id=request_id, wall=self._clock.now, viewer=viewer)
        if wait := self._viewers.wait_s(asked.request.user_id):
            return _later(f"this viewer asked more than {self._limits.viewer_per_s:g} times a second", wait)
        with self._gate.enter() as room:
            if room:
                return await self._in(self._threads, lambda: self._make(asked))
        return await self._shed(asked)

    async def _shed(self, asked: Asked) -> Answer:
        """What trends, for what is too much."""
        with self._shed_gate.enter() as room:
            if room:
                made = await self._in(self._shed_threads, lambda: self._make_shed(asked))
                return _with(made, ("x-livefeed-shed", "1"))
        self._parts.metrics.requests.labels("overload").inc()
        return error(
            "the proxy has more feeds under way than it can make; ask again", 503, headers=(("retry-after", "1"),)
        )

    async def _in(self, threads: ThreadPoolExecutor, make: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(threads, make)

    def _make(self, asked: Asked) -> Answer:
        request = asked.request
        self._clock.saw(request.now)
        if self._clock.follows_requests:
            self._parts.background.catch_up(request.now)
        feed = self._edge.pager.page(request, asked.cursor, self._parts)
        return self._encoded(feed, "degraded" if feed.degraded else "ok")

    def _make_shed(self, asked: Asked) -> Answer:
        return self._encoded(self._edge.shed.page(asked.request, asked.cursor, self._parts), "shed")

    def _encoded(self, feed: Feed, outcome: str) -> Answer:
        self._parts.metrics.requests.labels(outcome).inc()
        return as_json(feed, headers=(("x-livefeed-release", feed.release), ("x-livefeed-arm", feed.arm)))

    def _readyz(self) -> Answer:
        """200 when catalogue, release, model server and log answer, else 503 with what is wrong; names the release in use."""
        troubles, retrieval = troubles_of(self._parts), self._parts.background.retrieval
        release = retrieval.release.name if retrieval else "none"
        return as_json({"ready": not troubles, "release": release, "troubles": troubles}, 503 if troubles else 200)


def troubles_of(parts: FeedParts) -> dict[Literal["features", "release", "model", "impressions"], str]:
    """What keeps answers from being whole, in one sentence each."""
    background = parts.background
    release = background.releases.refused or ("" if background.retrieval else "no release is in traffic")
    found: dict[Literal["features", "release", "model", "impressions"], str] = {
        "features": background.store_trouble or parts.store_breaker.trouble,
        "release": release,
        "model": background.model_trouble or _said(parts.model_breakers.troubles),
        "impressions": parts.impressions.trouble,
    }
    return {name: trouble for name, trouble in found.items() if trouble}


def _said(troubles: Mapping[str, str]) -> str:
    return "; ".join(said if label == STABLE else f"{label}: {said}" for label, said in troubles.items())


def _malformed(scope: Scope, limits: LimitConfig) -> Answer | None:
    """What is wrong with the request before anybody looks at what it asks for."""
    closing = (("connection", "close"),)
    url = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
    if url > limits.url_bytes:
        return error(f"the URL has {url} bytes; allowed are {limits.url_bytes}", 414, headers=closing)
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > limits.headers or size > limits.header_bytes:
        allowed = f"{limits.headers} headers of {limits.header_bytes} bytes together"
        return error(
            f"the request has {len(headers)} headers of {size} bytes; allowed are {allowed}", 431, headers=closing
        )
    if scope["http_version"] == "1.1" and sum(name == b"host" for name, _ in headers) != 1:
        return error("the header Host is missing or repeated; allowed is one", 400, headers=closing)
    if any(name == b"transfer-encoding" or (name == b"content-length" and value != b"0") for name, value in headers):
        return error("the request has a body; allowed is none", 400, headers=closing)
    return None


def _header(scope: Scope, name: bytes) -> str | None:
    """A header's value; BadRequest when it is there twice."""
    found = [value for key, value in scope["headers"] if key == name]
    if len(found) > 1:
        raise BadRequest(f"the header {name.decode()} is there {len(found)} times; allowed is once")
    return found[0].decode("latin-1") if found else None


def _challenge(*, given: bool) -> str:
    return 'Bearer realm="livefeed"' + (', error="invalid_token"' if given else "")


def _later(what: str, wait_s: float) -> Answer:
    seconds = max(1, math.ceil(wait_s))
    return error(f"{what}; allowed again in {seconds} s", 429, headers=(("retry-after", str(seconds)),))


def _with(answer: Answer, *headers: tuple[str, str]) -> Answer:
    return Answer(
        body=answer.body, status=answer.status, media_type=answer.media_type, headers=(*answer.headers, *headers)
    )
