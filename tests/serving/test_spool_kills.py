"""A process that is killed at any write leaves a spool from which every event that was confirmed is still sent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.schema import Impression
from events.topics import IMPRESSIONS, encode
from serving.spool import Spool
from tests.serving.test_spool import shown

BOUND = 4_000


class Killed(BaseException):
    """The process is no more."""


def spool_in(folder: Path, *, max_bytes: int = 1_000_000) -> Spool:
    return Spool(folder / "impressions.jsonl", topic=IMPRESSIONS, max_bytes=max_bytes)


def numbers(spool: Spool, limit: int = 1 << 20) -> list[int]:
    return [int(event.request_id[1:]) for event in spool.take(limit)[0] if isinstance(event, Impression)]


def drained(spool: Spool, limit: int) -> list[int]:
    """Everything, piece by piece, as the sender takes it."""
    out: list[int] = []
    while spool.size:
        events, size = spool.take(limit)
        out += [int(event.request_id[1:]) for event in events if isinstance(event, Impression)]
        spool.drop(size)
    return out


def test_an_append_that_was_killed_at_any_byte_costs_no_event_before_or_after_it(tmp_path: Path) -> None:
    line = encode(shown(1, "vera")) + b"\n"
    for cut in range(len(line) + 1):
        spool = spool_in(tmp_path / str(cut))
        spool.append([shown(0, "vera")])
        with (tmp_path / str(cut) / "impressions.jsonl").open("ab") as file:
            file.write(line[:cut])
        again = spool_in(tmp_path / str(cut))
        again.append([shown(2, "vera")])
        whole = [1] if cut >= len(line) - 1 else []  # without its line end the event is whole already
        assert numbers(again) == [0, *whole, 2]


@pytest.mark.parametrize("step", ["unlink", "replace", "write_bytes", "write_text"])
@pytest.mark.parametrize("before", [True, False])
def test_a_drop_that_was_killed_at_any_step_passes_over_nothing(
    step: str, before: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_in(tmp_path)
    spool.append([shown(n, "vera") for n in range(20)])
    _, first = spool.take(1)
    spool.drop(first)  # leaves a mark
    real: Callable[..., Any] = getattr(Path, step)

    def killed(path: Path, *args: Any, **named: Any) -> Any:
        if before:
            raise Killed
        real(path, *args, **named)
        raise Killed

    events, size = spool.take(1 if step == "write_text" else 2_500)
    with monkeypatch.context() as patched:
        patched.setattr(Path, step, killed)
        with pytest.raises(Killed):
            spool.drop(size)
    left = range(1 + len(events), 20)
    assert set(left) <= set(numbers(spool_in(tmp_path)))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.integers(1, 6).map(lambda count: ("append", count)),
            st.integers(1, 2_000).map(lambda limit: ("send", limit)),
            st.integers(1, 2_000).map(lambda limit: ("send and be killed", limit)),
            st.just(("torn", 0)),
        ),
        max_size=25,
    )
)
def test_whatever_happens_every_confirmed_event_is_sent_in_order_and_the_bound_holds(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, made = spool_in(folder, max_bytes=BOUND), 0
    confirmed: list[int] = []
    sent: list[int] = []
    for what, size in steps:
        if what == "append":
            kept = spool.append([shown(n, "vera") for n in range(made, made + size)])
            confirmed += range(made, made + kept)
            made += size
        elif what == "torn":
            with (folder / "impressions.jsonl").open("ab") as file:
                file.write(b'{"type":"impr')
            spool = spool_in(folder, max_bytes=BOUND)
        else:
            events, length = spool.take(size)
            sent += [int(event.request_id[1:]) for event in events if isinstance(event, Impression)]
            if what == "send":
                spool.drop(length)
            else:
                spool = spool_in(folder, max_bytes=BOUND)
        assert (folder / "impressions.jsonl").stat().st_size <= BOUND + 20 * 25 if made else True
    sent += drained(spool, 300)
    assert list(dict.fromkeys(sent)) == confirmed


def test_two_processes_do_not_drain_at_once(tmp_path: Path) -> None:
    one, other = spool_in(tmp_path), spool_in(tmp_path)
    with one.draining() as first, other.draining() as second:
        assert (first, second) == (True, False)
    with other.draining() as alone:
        assert alone


def test_what_is_sent_makes_room_again(tmp_path: Path) -> None:
    line = len(encode(shown(0, "vera"))) + 1
    spool = spool_in(tmp_path, max_bytes=3 * line)
    assert spool.append([shown(n, "vera") for n in range(5)]) == 3
    _, size = spool.take(1)
    spool.drop(size)
    assert spool.append([shown(7, "vera")]) == 1
    assert numbers(spool) == [1, 2, 7]
