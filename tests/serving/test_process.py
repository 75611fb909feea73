"""The proxy as a process, with none of its parts there: it answers, says so, and ends cleanly."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nowhere = {
        "KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "REDIS_ADDRESS": "redis://127.0.0.1:1/0",
        "MODEL_SERVER_ADDRESS": "127.0.0.1:1",
    }
    settings = nowhere | {"PROXY_PORT": str(port), "VAR": str(tmp_path / "var")}
    environment = os.environ | {f"LIVEFEED_{name}": value for name, value in settings.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "run"], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )
    yield f"http://127.0.0.1:{port}", process
    process.kill()
    process.communicate()


def test_without_any_part_it_answers_and_ends_cleanly(address: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = address
    deadline = time.monotonic() + 90
    while True:
        try:
            answer = httpx.get(f"{url}/api/v1/content/feed", params={"user_id": "u"}, timeout=30)
            break
        except httpx.TransportError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert answer.status_code == 200
    assert answer.json()["items"] == []
    assert answer.json()["degraded"] == ["features_unavailable", "model_unavailable", "no_candidates"]
    ready = httpx.get(f"{url}/readyz", timeout=30)
    assert ready.status_code == 503
    assert "did not answer" in ready.json()["troubles"]["features"]
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"Traceback" not in errors


def test_it_may_have_as_many_files_open_as_its_connections_need() -> None:
    asked = (
        "import resource as r; from serving.processes import allow_files;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 4_096)); allow_files(); print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4096"
