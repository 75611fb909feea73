"""The administration: what it does, whom it answers, where it listens."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
import structlog
from starlette.testclient import TestClient

from serving.admin import AdministrationOf, LogLevel, check_binding, create_admin
from serving.admin_server import AdminServer
from serving.errors import AdminRefused
from serving.http import create_app
from serving.wiring import Proxy
from tests.serving.small_world import SmallWorld

HERE = {"Host": "127.0.0.1:18082"}
TOKEN = "t" * 32


class Colours:
    """One experiment of two colours."""

    def __init__(self) -> None:
        self.arm: str | None = "drawn"

    def status(self) -> Mapping[str, Any]:
        return {"colour": {"arm": self.arm}}

    def pin(self, experiment: str, arm: str) -> None:
        if experiment != "colour":
            raise AdminRefused(f"experiment {experiment!r} is not known; allowed is colour")
        self.arm = arm

    def kill(self, experiment: str) -> None:
        self.arm = None


@pytest.fixture
def proxy(world: SmallWorld) -> Proxy:
    world.release()
    return world.proxy()


@pytest.fixture
def level() -> LogLevel:
    return LogLevel()


@pytest.fixture
def client(proxy: Proxy, level: LogLevel) -> TestClient:
    return TestClient(create_admin(AdministrationOf(proxy.parts, Colours()), level), headers=HERE)


def test_versions_and_breakers_are_named_by_label(client: TestClient, proxy: Proxy) -> None:
    assert client.get("/admin/versions").json() == {"stable": {"release": "demo-1", "model_version": 1}}
    proxy.parts.store_breaker.failed("it hung up")
    assert client.get("/admin/breakers").json() == {
        "features": {"open": True, "state": "open", "trouble": "it hung up"},
        "two_tower stable": {"open": False, "state": "closed", "trouble": ""},
        "ranker stable": {"open": False, "state": "closed", "trouble": ""},
    }  # fmt: skip


def test_a_reload_takes_the_new_release_at_once(client: TestClient, world: SmallWorld) -> None:
    world.release(2)
    answer = client.post("/admin/release/reload", json={})
    assert (answer.status_code, answer.json()) == (200, {"release": "demo-2"})


def test_a_release_that_cannot_be_loaded_is_said(client: TestClient, world: SmallWorld) -> None:
    (world.release(2) / "manifest.json").write_text("{}")
    answer = client.post("/admin/release/reload", json={})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("the release was not taken: ")


def test_an_experiment_is_pinned_and_killed(client: TestClient) -> None:
    assert client.get("/admin/experiments").json() == {"colour": {"arm": "drawn"}}
    assert client.post("/admin/experiments/colour/pin", json={"arm": "red"}).json() == {"colour": {"arm": "red"}}
    assert client.post("/admin/experiments/colour/kill", json={}).json() == {"colour": {"arm": None}}
    refused = client.post("/admin/experiments/smell/pin", json={"arm": "red"})
    assert (refused.status_code, refused.json()) == (
        400,
        {"error": "experiment 'smell' is not known; allowed is colour"},
    )


def test_without_experiments_there_is_nothing_to_pin(proxy: Proxy) -> None:
    client = TestClient(create_admin(AdministrationOf(proxy.parts), LogLevel()), headers=HERE)
    assert client.get("/admin/experiments").json() == {}
    assert client.post("/admin/experiments/x/pin", json={"arm": "a"}).status_code == 400
    assert client.post("/admin/experiments/x/kill", json={}).status_code == 400


def test_the_log_level_changes_what_is_written(client: TestClient, level: LogLevel) -> None:
    def written(method: str) -> bool:
        try:
            return level(None, method, {"event": "x"}) == {"event": "x"}
        except structlog.DropEvent:
            return False

    assert client.get("/admin/log-level").json() == {"level": "info"}
    assert (written("debug"), written("info")) == (False, True)
    assert client.put("/admin/log-level", json={"level": "error"}).json() == {"level": "error"}
    assert (written("warning"), written("error")) == (False, True)
    assert client.put("/admin/log-level", json={"level": "loud"}).json() == {
        "error": "level='loud' is not allowed; allowed is one of debug, info, warning, error"
    }


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/admin/nothing", {}, 404),
        ("GET", "/api/v1/content/feed", {}, 404),
        ("GET", "/admin/release/reload", {}, 405),
        ("POST", "/admin/experiments/a%2Fb/pin", {"json": {"arm": "x"}}, 404),
        ("POST", "/admin/release/reload", {"data": {"a": "b"}}, 415),
        ("POST", "/admin/release/reload", {}, 415),
        ("PUT", "/admin/log-level", {"content": b"{", "headers": {"content-type": "application/json"}}, 400),
        ("PUT", "/admin/log-level", {"json": ["info"]}, 400),
        ("PUT", "/admin/log-level", {"json": {"level": 7}}, 400),
        ("PUT", "/admin/log-level", {"json": {"level": "x" * 5000}}, 400),
    ],
)
def test_what_it_does_not_do_gets_a_sentence(
    client: TestClient, method: str, path: str, more: dict[str, Any], status: int
) -> None:
    answer = client.request(method, path, **more)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "127.0.0.1:18082:80", "localhost:x"])
def test_a_page_under_another_name_that_leads_here_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/admin/versions", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:18082", "[::1]:18082"])
def test_this_machine_may_ask(client: TestClient, host: str) -> None:
    assert client.get("/admin/versions", headers={"Host": host}).status_code == 200


def test_with_a_token_only_who_sends_it_is_answered(proxy: Proxy) -> None:
    client = TestClient(create_admin(AdministrationOf(proxy.parts), LogLevel(), token=TOKEN))
    missing = client.get("/admin/versions")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="livefeed administration"')
    for wrong in ("Bearer " + "T" * 32, TOKEN, "Bearer ", "Basic " + TOKEN, "Bearer é"):
        assert client.get("/admin/versions", headers={"Authorization": wrong.encode()}).status_code == 401
    assert client.get("/admin/versions", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_the_public_application_has_none_of_it(proxy: Proxy) -> None:
    client = TestClient(create_app(proxy.parts, proxy.clock))
    for path in ("/admin/versions", "/admin/breakers", "/admin/log-level", "/admin/release/reload", "//admin/versions"):
        assert client.get(path).status_code == 404
        assert client.post(path).status_code == 404


def test_without_a_token_it_listens_to_this_machine_alone() -> None:
    for host in ("127.0.0.1", "127.8.8.8", "::1"):
        check_binding(host, "")
    for host in ("0.0.0.0", "10.0.0.1", "::", "localhost", ""):
        with pytest.raises(AdminRefused, match="cannot listen on"):
            check_binding(host, "")
    check_binding("0.0.0.0", TOKEN)
    with pytest.raises(AdminRefused, match="has 5 characters; allowed are 32 or more"):
        check_binding("0.0.0.0", "short")


def served(proxy: Proxy, port: int, said: list[str]) -> AdminServer:
    app = create_admin(AdministrationOf(proxy.parts), LogLevel())
    return AdminServer(app, host="127.0.0.1", port=port, token="", report=said.append)


def test_it_answers_on_a_port_of_its_own(proxy: Proxy) -> None:
    server = served(proxy, 0, [])
    server.start()
    try:
        answer = httpx.get(f"http://127.0.0.1:{server.port}/admin/versions", timeout=20)
        assert answer.json()["stable"]["release"] == "demo-1"
    finally:
        server.stop()


def test_it_sleeps_between_requests_ends_when_told_and_dates_its_answers(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looks(*_: object) -> bool:
        raise AssertionError("it looks whether to end")

    monkeypatch.setattr("uvicorn.Server.on_tick", looks)
    server = served(proxy, 0, [])
    server.start()
    dates = []
    for second in (1_800_000_000.7, 1_800_000_000.9, 1_800_000_001.0):
        monkeypatch.setattr("serving.processes.time.time", lambda second=second: second)
        dates.append(httpx.get(f"http://127.0.0.1:{server.port}/admin/versions", timeout=20).headers["date"])
    server.stop()
    assert not server._thread.is_alive()
    server.stop()  # once more, to no harm
    assert dates == ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:01 GMT"]


def test_an_end_before_its_thread_has_begun_is_not_lost(proxy: Proxy) -> None:
    server = served(proxy, 0, [])
    assert server._server is not None
    server._server.end()
    asyncio.run(asyncio.wait_for(server._server.main_loop(), 20.0))  # as where it comes after uvicorn's own look
    server.start()
    server._thread.join(20.0)
    assert not server._thread.is_alive()


def test_a_port_that_is_taken_costs_the_administration_and_not_the_feed(proxy: Proxy) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = served(proxy, taken.getsockname()[1], said)
        server.start()
        server.stop()
    assert len(said) == 1
    assert said[0].endswith("the proxy goes without")
