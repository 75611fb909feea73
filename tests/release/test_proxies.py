"""What a deployment hears from a proxy's administration, over HTTP."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from release.errors import NoAnswer, NotUsed
from release.proxies import AdminProxy, wait_until_used


class Said:
    """An administration that gives these answers in turn, the last again and again."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        said, self.headers = list(answers), []
        heard = self.headers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append((self.path, self.headers.get("Authorization")))
                status, body = said.pop(0) if len(said) > 1 else said[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def stopping() -> Iterator[list[Said]]:
    held: list[Said] = []
    yield held
    for one in held:
        one.stop()


OLD = (200, '{"stable": {"release": "demo-1", "model_version": 1}}')
NEW = (
    200,
    '{"stable": {"release": "demo-2", "model_version": 2}, "canary": {"release": "demo-3", "model_version": 3}}',
)


def test_the_release_is_read_by_label(stopping: list[Said]) -> None:
    stopping.append(said := Said(NEW))
    assert AdminProxy(said.address, token="t" * 32).in_use() == {"stable": "demo-2", "canary": "demo-3"}
    assert said.headers == [("/admin/versions", f"Bearer {'t' * 32}")]


def test_it_is_asked_until_it_has_the_release(stopping: list[Said]) -> None:
    stopping.append(said := Said(OLD, OLD, NEW))
    heard: list[str] = []
    wait_until_used([AdminProxy(said.address)], "stable", "demo-2", wait_s=10.0, report=heard.append)
    assert heard == [f"the proxy at {said.address} has demo-2 as stable"]
    assert len(said.headers) == 3


def test_one_that_does_not_listen_is_not_waited_for() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    heard: list[str] = []
    wait_until_used([AdminProxy(address)], "stable", "demo-2", wait_s=10.0, report=heard.append)
    assert heard == [f"the proxy at {address} is not there"]


def test_one_that_answers_nonsense_is_asked_again_and_then_named(stopping: list[Said]) -> None:
    stopping.append(said := Said((200, "[]")))
    with pytest.raises(
        NotUsed,
        match=rf"^the proxy at {said.address} still does not say what it has as stable after 0\.2 s, not demo-2$",
    ):
        wait_until_used([AdminProxy(said.address)], "stable", "demo-2", wait_s=0.2, report=lambda _: None)


@pytest.mark.parametrize("wanted", ["demo-2", None])
def test_one_that_hangs_is_no_proof_that_a_label_is_gone(
    stopping: list[Said], monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    monkeypatch.setattr("release.proxies.TIMEOUT_S", 0.1)
    with socket.socket() as hung:
        hung.bind(("127.0.0.1", 0))
        hung.listen()  # takes the connection and never answers
        address = f"http://127.0.0.1:{hung.getsockname()[1]}"
        with pytest.raises(NoAnswer, match=rf"^the proxy at {address} does not say what it uses: ReadTimeout: "):
            AdminProxy(address).in_use()
        with pytest.raises(NotUsed, match="does not say what it has as canary after"):
            wait_until_used([AdminProxy(address)], "canary", wanted, wait_s=0.2, report=lambda _: None)


def test_one_that_still_has_another_is_named_with_it(stopping: list[Said]) -> None:
    stopping.append(said := Said(NEW))
    with pytest.raises(
        NotUsed, match=rf"^the proxy at {said.address} still has demo-3 as canary after 0\.2 s, not nothing$"
    ):
        wait_until_used([AdminProxy(said.address)], "canary", None, wait_s=0.2, report=lambda _: None)


def test_one_that_refuses_the_token_says_so_at_once(stopping: list[Said]) -> None:
    stopping.append(said := Said((401, '{"error": "the token is wrong"}')))
    with pytest.raises(NotUsed, match=r"does not say what it uses: .*the token is wrong"):
        wait_until_used([AdminProxy(said.address)], "stable", "demo-2", wait_s=30.0, report=lambda _: None)


@pytest.mark.parametrize("address", ["127.0.0.1:18082", "ftp://127.0.0.1", "http://127.0.0.1:port"])
def test_what_is_no_address_is_one_sentence(address: str) -> None:
    with pytest.raises(NotUsed, match=r"^the proxy address .* is not allowed .*; allowed is http://host:port$"):
        AdminProxy(address).in_use()
