"""The administration: its own application on its own loopback port; nothing of it is reachable from the public one."""

import hmac
import ipaddress
import logging
import re
from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import structlog

from registry.manifest import RANKER, TWO_TOWER
from serving.answers import Answer, App, Receive, Scope, Send, as_json, error, live, send_answer
from serving.attempt import FeedParts
from serving.errors import AdminRefused
from serving.feed import STABLE

LEVELS = ("debug", "info", "warning", "error")
LONGEST_BODY = 4_096
TOKEN_CHARACTERS = 32
_EXPERIMENT = re.compile(r"/admin/experiments/([A-Za-z0-9_.-]{1,64})/(pin|kill)")
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")
_ROUTES = {
    "/admin/versions": ("GET",),
    "/admin/breakers": ("GET",),
    "/admin/experiments": ("GET",),
    "/admin/log-level": ("GET", "PUT"),
    "/admin/release/reload": ("POST",),
}
_ALLOWED = f"{', '.join(_ROUTES)}, /admin/experiments/NAME/pin, /admin/experiments/NAME/kill"


class Experiments(Protocol):
    """What may be done to the experiments under way; AdminRefused names what there is."""

    def status(self) -> Mapping[str, Any]:
        """By name, as JSON."""
        ...

    def pin(self, experiment: str, arm: str) -> None:
        """Everybody gets that arm."""
        ...

    def kill(self, experiment: str) -> None:
        """Nobody is in it any more."""
        ...


class Administration(Experiments, Protocol):
    """What the administration can do."""

    def reload_release(self) -> str:
        """Look for a new release now; the name of the one in use."""
        ...

    def versions(self) -> Mapping[str, Any]:
        """Release and model versions in use."""
        ...

    def breakers(self) -> Mapping[str, Any]:
        """By part: whether it is asked, and its last trouble."""
        ...


class NoExperiments:
    """There are none."""

    def status(self) -> Mapping[str, Any]:
        """Empty."""
        return {}

    def pin(self, experiment: str, arm: str) -> None:
        """AdminRefused."""
        raise AdminRefused(f"experiment {experiment!r} cannot get the arm {arm!r}; there are no experiments")

    def kill(self, experiment: str) -> None:
        """AdminRefused."""
        raise AdminRefused(f"experiment {experiment!r} cannot be ended; there are no experiments")


class AdministrationOf:
    """The administration of a proxy's parts."""

    def __init__(self, parts: FeedParts, experiments: Experiments | None = None) -> None:
        self._parts = parts
        experiments = experiments or NoExperiments()
        self.status, self.pin, self.kill = experiments.status, experiments.pin, experiments.kill

    def reload_release(self) -> str:
        """Look for a new release now; AdminRefused when it cannot be loaded."""
        background = self._parts.background
        background.reload()
        if background.releases.refused:
            raise AdminRefused(f"the release was not taken: {background.releases.refused}")
        return background.retrieval.release.name if background.retrieval else "none"

    def versions(self) -> Mapping[str, Any]:
        """Release and model version by label."""
        held = {label: one.release for label, one in sorted(self._parts.background.retrievals.items())}
        return {label: {"release": one.name, "model_version": one.manifest.version} for label, one in held.items()}

    def breakers(self) -> Mapping[str, Any]:
        """By part: whether it is left alone, and its last trouble."""
        labels = sorted({STABLE, *self._parts.background.retrievals})
        held = {"features": self._parts.store_breaker}
        of = self._parts.model_breakers.of
        held |= {f"{model} {label}": of(label, model) for label in labels for model in (TWO_TOWER, RANKER)}
        return {
            name: {"open": one.is_open, "state": one.state.name.lower(), "trouble": one.trouble}
            for name, one in held.items()
        }


class LogLevel:
    """A structlog processor that drops entries below a level that may change."""

    def __init__(self, level: str = "info") -> None:
        self.level = level

    def __call__(self, _: Any, method: str, entry: Any) -> Any:
        """The entry, or structlog.DropEvent."""
        if logging.getLevelName(method.upper()) < logging.getLevelName(self.level.upper()):
            raise structlog.DropEvent
        return entry

    def set(self, level: str) -> None:
        """AdminRefused unless it is a level."""
        if level not in LEVELS:
            raise AdminRefused(f"level={str(level)[:32]!r} is not allowed; allowed is one of {', '.join(LEVELS)}")
        self.level = level


def check_binding(host: str, token: str) -> None:
    """AdminRefused where it would listen to others without asking who they are."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise AdminRefused(f"the administration cannot listen on {host!r}; allowed is an IP address") from None
    if token and len(token) < TOKEN_CHARACTERS:
        raise AdminRefused(
            f"the administration's token has {len(token)} characters; allowed are {TOKEN_CHARACTERS} or more"
        )
    if not loopback and not token:
        raise AdminRefused(f"the administration cannot listen on {host} without a token; allowed is a loopback address")


def create_admin(administration: Administration, level: LogLevel, *, token: str = "") -> App:
    """The ASGI application; with a token only for who sends it."""
    admin = _Admin(administration, level, token)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send)
        elif scope["type"] == "http":
            await send_answer(await admin.answer(scope, receive), send)

    return app


class _Admin:
    def __init__(self, administration: Administration, level: LogLevel, token: str) -> None:
        self._do, self._level, self._token = administration, level, token

    async def answer(self, scope: Scope, receive: Receive) -> Answer:
        """One table from error to answer."""
        try:
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            return self._refused(headers) or await self._route(scope, headers, receive)
        except AdminRefused as refused:
            return error(str(refused), 400)
        except Exception as failure:  # noqa: BLE001  the outermost boundary: no traceback may reach a client
            structlog.get_logger().error(
                "administration failed", path=scope["path"], error=repr(failure), exc_info=True
            )
            return error("it could not be done; the proxy's log has the reason", 500)

    def _refused(self, headers: Mapping[str, str]) -> Answer | None:
        if self._token:
            given = headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                challenge = (("www-authenticate", 'Bearer realm="livefeed administration"'),)
                return error(
                    "the administration's token is missing or wrong; allowed is Bearer and it", 401, headers=challenge
                )
            return None
        # A page in a browser on this machine could ask us under a name of its own that leads to loopback.
        host = headers.get("host", "")
        if not _LOOPBACK.fullmatch(host):
            return error(f"the host {host[:64]!r} is not allowed; allowed are 127.0.0.1, localhost, [::1]", 403)
        return None

    async def _route(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        experiment = _EXPERIMENT.fullmatch(path)
        methods = ("POST",) if experiment else _ROUTES.get(path)
        if methods is None:
            return error(f"no such path {path[:128]!r}; allowed are {_ALLOWED}", 404)
        if method not in methods:
            sentence = f"{method} {path} is not allowed; allowed is {' or '.join(methods)}"
            return error(sentence, 405, headers=(("allow", ", ".join(methods)),))
        if method == "GET":
            return as_json(self._read(path))
        # No form of a web page can send this type without asking first.
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return error("the content-type is not allowed; allowed is application/json", 415)
        body = await _body(receive)
        if experiment:
            return self._experiment(experiment[1], experiment[2], body)
        if path == "/admin/log-level":
            self._level.set(_text(body, "level"))
            return as_json({"level": self._level.level})
        return as_json({"release": self._do.reload_release()})

    def _read(self, path: str) -> Any:
        if path == "/admin/versions":
            return self._do.versions()
        if path == "/admin/breakers":
            return self._do.breakers()
        if path == "/admin/experiments":
            return self._do.status()
        return {"level": self._level.level}

    def _experiment(self, name: str, what: str, body: Mapping[str, Any]) -> Answer:
        if what == "pin":
            self._do.pin(name, _text(body, "arm"))
        else:
            self._do.kill(name)
        return as_json(self._do.status())


async def _body(receive: Receive) -> Mapping[str, Any]:
    """The JSON object that was sent, empty without a body; AdminRefused when it is something else."""
    raw, more = b"", True
    while more:
        message = await receive()
        raw, more = raw + message.get("body", b""), message.get("more_body", False)
        if len(raw) > LONGEST_BODY:
            raise AdminRefused(f"the body has over {LONGEST_BODY} bytes; allowed is a small JSON object")
    try:
        return msgspec.json.decode(raw or b"{}", type=dict[str, Any])
    except msgspec.MsgspecError as wrong:
        raise AdminRefused(f"the body cannot be read ({wrong}); allowed is a JSON object") from None


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise AdminRefused(f"{name}={str(value)[:64]!r} is not allowed; allowed is a text of 1 to 64 characters")
    return value
