"""The stack as one thing: up twice, down, taken ports, dying parts, stale state, interrupts; first with small stand-ins."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from settings import Settings
from stack import Parts, catalogue, parts, state
from stack.errors import PartFailed, StackBusy, UnknownPart
from stack.part import ROOT, Part, listens

SERVE = """
import socket, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
wire = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("serving", flush=True)
while True:
    wire.accept()
"""
Silent: Callable[[str], None] = lambda _: None  # noqa: E731


def small(settings: Settings, name: str, port: int, code: str = SERVE, **extra: object) -> Part:
    """A part that listens on a port and has a child of its own."""
    part = Part(
        name=name,
        command=(sys.executable, "-c", code, str(port)),
        log=settings.logs / f"{name}.log",
        ports=(port,),
        ready=lambda: listens("127.0.0.1", port),
        stop_timeout_s=5.0,
    )
    return replace(part, **extra)  # type: ignore[arg-type]


@pytest.fixture
def stack(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Parts]:
    """A stack of two small parts, the second of which needs the first."""

    def two(settings: Settings, **_: object) -> dict[str, Part]:
        store = small(settings, "store", settings.redis_port)
        reader = small(settings, "reader", settings.proxy_port, needs=("store",))
        return {"store": store, "reader": reader}

    monkeypatch.setattr(parts, "catalogue", two)
    with Parts(own_settings) as made:
        yield made


def conditions(stack: Parts) -> dict[str, str]:
    return {row.name: row.condition for row in stack.status()}


def strays(pids: list[int]) -> list[psutil.Process]:
    """Live processes of the sessions that those pids led."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) in pids and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_up_starts_what_is_needed_first_and_down_leaves_no_process(stack: Parts) -> None:
    said: list[str] = []
    stack.up(["reader"], report=said.append)
    assert conditions(stack) == {"store": "running", "reader": "running"}
    assert next(line for line in said if "starting" in line).startswith("store")
    pids = [row.pid for row in stack.status() if row.pid]
    assert len(strays(pids)) == 4  # two parts, a child each
    stack.down(report=Silent)
    assert conditions(stack) == {"store": "stopped", "reader": "stopped"}
    assert strays(pids) == []


def test_a_second_up_leaves_what_runs(stack: Parts) -> None:
    first = {row.name: row.pid for row in stack.up(report=Silent)}
    again = Parts(stack.settings)  # another command, later
    assert {row.name: row.pid for row in again.up(report=Silent)} == first


def test_a_port_taken_by_a_stranger_is_an_error_naming_part_and_port(stack: Parts) -> None:
    port = stack.settings.redis_port
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(
            PartFailed,
            match=rf"store cannot start because port {port} is taken \(.*pid {os.getpid()}\).*LIVEFEED_REDIS_PORT",
        ),
    ):
        stack.up(report=Silent)
    assert conditions(stack) == {"store": "stopped", "reader": "stopped"}


def test_a_part_that_dies_is_an_error_with_its_log_and_the_others_are_stopped(
    own_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = own_settings.proxy_port

    def one_dies(settings: Settings, **_: object) -> dict[str, Part]:
        bad = small(settings, "bad", port, code="import time, sys; time.sleep(1); sys.exit('no disk left')")
        return {"store": small(settings, "store", settings.redis_port), "bad": bad}

    monkeypatch.setattr(parts, "catalogue", one_dies)
    stack = Parts(own_settings)
    with pytest.raises(PartFailed, match=rf"bad died while starting \(port {port}, log .*bad.log\).*: no disk left"):
        stack.up(report=Silent)
    assert conditions(stack) == {"store": "stopped", "bad": "stopped"}
    assert not listens("127.0.0.1", own_settings.redis_port)


def test_a_part_that_never_answers_is_an_error(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(settings: Settings, **_: object) -> dict[str, Part]:
        part = small(settings, "mute", settings.redis_port, code="import time; time.sleep(60)", start_timeout_s=0.5)
        return {"mute": part}

    monkeypatch.setattr(parts, "catalogue", mute)
    with pytest.raises(PartFailed, match="mute runs but did not answer within 0 s"):
        Parts(own_settings).up(report=Silent)


def test_a_program_that_is_not_there_is_an_error(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ghost = replace(small(own_settings, "ghost", own_settings.redis_port), command=("no-such-program",))
    monkeypatch.setattr(parts, "catalogue", lambda settings, **_: {"ghost": ghost})
    with pytest.raises(PartFailed, match="ghost could not be started: no-such-program: No such file"):
        Parts(own_settings).up(report=Silent)


def test_a_part_killed_from_outside_is_seen_and_started_again(stack: Parts) -> None:
    before = {row.name: row.pid for row in stack.up(report=Silent)}
    assert before["store"]
    os.kill(before["store"], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while conditions(stack)["store"] != "died" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert conditions(stack) == {"store": "died", "reader": "running"}
    after = {row.name: row.pid for row in stack.up(report=Silent)}
    assert after["store"] != before["store"]
    assert after["reader"] == before["reader"]
    assert strays([before["store"]]) == []  # its child went with it


def test_a_record_whose_pid_now_belongs_to_a_stranger_is_forgotten_and_the_stranger_lives(stack: Parts) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as stranger:
        try:
            path = stack.settings.var / "stack" / "state.json"
            state.save(path, {"store": state.Running("store", stranger.pid, 1.0, (stack.settings.redis_port,), "x")})
            assert conditions(stack)["store"] == "died"
            stack.up(report=Silent)
            stack.down(report=Silent)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_lock_held_by_a_live_process_is_an_error_naming_it(stack: Parts) -> None:
    lock = stack.settings.var / "stack" / "lock"
    with state.exclusive(lock), pytest.raises(StackBusy, match=f"process {os.getpid()} is starting or stopping"):
        stack.up(report=Silent)


def test_a_lock_file_left_by_a_dead_process_holds_nobody_up(stack: Parts) -> None:
    lock = stack.settings.var / "stack" / "lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("999999")
    assert len(stack.up(report=Silent)) == 2


def test_ports_changed_under_a_running_part_are_an_error(stack: Parts) -> None:
    stack.up(["store"], report=Silent)
    moved = Parts(stack.settings.model_copy(update={"redis_port": stack.settings.mlflow_port}))
    with pytest.raises(PartFailed, match="store already runs on port"):
        moved.up(["store"], report=Silent)


def test_a_part_that_ignores_its_signal_is_killed(own_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal; signal.signal(15, signal.SIG_IGN)\n" + SERVE

    def stubborn(settings: Settings, **_: object) -> dict[str, Part]:
        return {"deaf": small(settings, "deaf", settings.redis_port, code=deaf, stop_timeout_s=0.5)}

    monkeypatch.setattr(parts, "catalogue", stubborn)
    stack = Parts(own_settings)
    stack.up(report=Silent)
    said: list[str] = []
    stack.down(report=said.append)
    assert said == ["deaf: killed after 0 s"]
    assert not listens("127.0.0.1", own_settings.redis_port)


def test_an_unknown_part_is_named_with_those_there_are(own_settings: Settings) -> None:
    with pytest.raises(UnknownPart, match="unknown part 'zookeeper'; allowed are kafka, redis, mlflow, model-server"):
        Parts(own_settings).up(["zookeeper"], report=Silent)


def test_a_part_whose_address_is_given_is_not_started_here(own_settings: Settings) -> None:
    elsewhere = own_settings.model_copy(update={"redis_address": "redis://store.example:6379/0"})
    found = catalogue.catalogue(elsewhere)
    assert "redis" not in found
    assert found["collector"].needs == ("kafka",)


def test_down_stops_a_part_that_runs_here_although_its_address_now_points_elsewhere(own_settings: Settings) -> None:
    Parts(own_settings).up(["redis"], report=Silent)
    elsewhere = own_settings.model_copy(update={"redis_address": "redis://store.example:6379/0"})
    Parts(elsewhere).down(report=Silent)
    assert not listens("127.0.0.1", own_settings.redis_port)


def test_every_port_of_a_free_choice_differs(own_settings: Settings) -> None:
    chosen = [getattr(own_settings, name) for name in catalogue.PORTS]
    assert len(set(chosen)) == len(chosen)


def test_ctrl_c_during_up_stops_what_it_started(own_settings: Settings, tmp_path: Path) -> None:
    environment = {**os.environ, **own_settings.environment(), "PYTHONPATH": str(ROOT)}
    # Redis is up at once; then this "up" waits for a part that never answers, until it is interrupted.
    story = """
import signal, sys
from dataclasses import replace
from settings import load
from stack import Parts, parts
from stack.catalogue import catalogue
signal.signal(signal.SIGINT, signal.default_int_handler)
def never(settings, **_):
    found = catalogue(settings)
    mute = replace(found["redis"], name="mute", ports=(), command=("sleep", "60"), ready=lambda: False, needs=("redis",))
    return {"redis": found["redis"], "mute": mute}
parts.catalogue = never
try:
    Parts(load()).up(report=lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    command = [sys.executable, "-c", story]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if line.startswith("mute: starting"):
                break
        pids = [row.pid for row in state.load(own_settings.var / "stack" / "state.json").values()]
        up.send_signal(signal.SIGINT)
        rest = up.stdout.read()
    assert "interrupted" in rest
    assert strays(pids) == []
    assert state.load(own_settings.var / "stack" / "state.json") == {}


def test_stopping_a_part_stops_what_needs_it_first() -> None:
    parts = catalogue.catalogue(Settings())
    assert [part.name for part in catalogue.leaning_on(parts, ["collector"])] == ["collector"]
    assert {"redis", "collector", "proxy"} == {part.name for part in catalogue.leaning_on(parts, ["redis"])}
    with pytest.raises(UnknownPart, match="unknown part 'postgres'; allowed are kafka"):
        catalogue.leaning_on(parts, ["postgres"])
