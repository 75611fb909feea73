"""Impressions reach the log when it answers, wait in a bounded file while it does not, and are sent when it is back."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from events.clock import utc
from events.errors import EventRefused, LogUnavailable
from events.log import MemoryLog, MemoryWriter
from events.schema import ContentType, Event, Impression
from events.topics import IMPRESSIONS, decode
from serving.impressions import ImpressionConfig, ImpressionLog
from serving.metrics import Metrics
from serving.spool import Spool
from tests.serving.small_world import NOW

AT_ONCE = ImpressionConfig(retry_s=0.0)


class Broker:
    """A log that can be down when connected to, and can fail at the flush."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.down = False

    def connect(self) -> "Broker":
        self._check()
        return self

    def _check(self) -> None:
        if self.down:
            raise LogUnavailable("the broker does not answer")

    def send(self, event: Event) -> None:
        MemoryWriter(self.log).send(event)

    def send_raw(self, *_: object, **__: object) -> None: ...

    def flush(self) -> None:
        self._check()

    def close(self) -> None: ...

    def ids(self) -> list[str]:
        return [decode(IMPRESSIONS, record.value).event_id for lane in self.log.records.values() for record in lane]


def impression(n: int) -> Impression:
    return Impression(
        event_id=f"q:{n}", event_at=utc(NOW), request_id="q", user_id="u", item_id=f"m{n}", content_type=ContentType.VIDEO,
        creator_id="c", position=n, features={"item.plays": 3.0, "item.tags": ["a"], "user.user_id": "u"},
    )  # fmt: skip


@pytest.fixture
def broker() -> Broker:
    return Broker()


def log_to(
    broker: Broker, tmp_path: Path, *, max_bytes: int = 1 << 20, config: ImpressionConfig = AT_ONCE
) -> ImpressionLog:
    spool = Spool(tmp_path / "spool" / "i.jsonl", topic=IMPRESSIONS, max_bytes=max_bytes)
    return ImpressionLog(broker.connect, spool, metrics=Metrics(), config=config)  # type: ignore[arg-type]


def test_what_is_put_is_sent_once(broker: Broker, tmp_path: Path) -> None:
    log = log_to(broker, tmp_path)
    log.put([impression(1), impression(2)])
    log.step()
    log.step()
    assert broker.ids() == ["q:1", "q:2"]


def test_while_the_log_is_down_impressions_wait_on_disk_and_come_whole_afterwards(
    broker: Broker, tmp_path: Path
) -> None:
    broker.down = True
    log = log_to(broker, tmp_path)
    for n in range(5):
        log.put([impression(n)])
        log.step()
    assert broker.ids() == []
    assert log.trouble == "the broker does not answer"
    log.close()
    broker.down = False
    again = log_to(broker, tmp_path)  # another process, later
    again.put([impression(9)])
    again.step()
    assert sorted(broker.ids()) == ["q:0", "q:1", "q:2", "q:3", "q:4", "q:9"]
    assert again.trouble == ""
    sent = broker.log.records[next(iter(broker.log.records))][0]
    assert decode(IMPRESSIONS, sent.value) == impression(int(decode(IMPRESSIONS, sent.value).event_id[2:]))


def test_a_log_that_fails_at_the_flush_gets_them_again(broker: Broker, tmp_path: Path) -> None:
    log = log_to(broker, tmp_path)
    log.put([impression(1)])
    log.step()
    broker.down = True
    log.put([impression(2)])
    log.step()
    broker.down = False
    log.step()
    assert set(broker.ids()) == {"q:1", "q:2"}  # q:2 perhaps twice: the collector drops it by its id


def test_the_file_is_bounded_and_what_does_not_fit_is_counted(broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    log = log_to(broker, tmp_path, max_bytes=1_000)
    log.put([impression(n) for n in range(50)])
    log.step()
    assert 0 < Spool(tmp_path / "spool" / "i.jsonl", topic=IMPRESSIONS, max_bytes=1).size <= 1_000
    counted = {
        line.split()[0]: float(line.split()[1])
        for line in log._metrics.text().decode().splitlines()
        if line.startswith("livefeed_impressions_total")
    }
    spooled = counted['livefeed_impressions_total{outcome="spooled"}']
    assert spooled > 0
    assert spooled + counted['livefeed_impressions_total{outcome="dropped"}'] == 50


def test_a_full_queue_goes_to_the_file(broker: Broker, tmp_path: Path) -> None:
    log = log_to(broker, tmp_path, config=ImpressionConfig(queue=2, retry_s=0.0))
    log.put([impression(1), impression(2)])
    log.put([impression(3)])
    log.step()
    assert sorted(broker.ids()) == ["q:1", "q:2", "q:3"]


def test_a_line_torn_by_a_crash_is_left_out(broker: Broker, tmp_path: Path) -> None:
    broker.down = True
    log = log_to(broker, tmp_path)
    log.put([impression(1)])
    log.step()
    with (tmp_path / "spool" / "i.jsonl").open("ab") as file:
        file.write(b'{"type":"impression","event_id":"q:2","ev')
    broker.down = False
    log.step()
    assert broker.ids() == ["q:1"]


def test_closing_sends_what_waits(broker: Broker, tmp_path: Path) -> None:
    log = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=5.0))
    log.start()
    log.put([impression(1)])
    log.close()
    assert broker.ids() == ["q:1"]


class Picky(Broker):
    """A log that will never take some events: said when they are sent, or only of all that were flushed together."""

    def __init__(self, *, at_flush: bool) -> None:
        super().__init__()
        self.at_flush = at_flush
        self.held: list[Event] = []

    def send(self, event: Event) -> None:
        if not self.at_flush and event.event_id == "q:3":
            raise EventRefused("too large")
        self.held.append(event)

    def flush(self) -> None:
        held, self.held = self.held, []
        self._check()
        if any(event.event_id == "q:3" for event in held):
            raise EventRefused("one of them is too large")
        for event in held:
            MemoryWriter(self.log).send(event)


@pytest.mark.parametrize("at_flush", [False, True])
@pytest.mark.parametrize("spooled", [False, True])
def test_an_event_the_log_will_never_take_is_counted_and_gone_and_keeps_no_other(
    tmp_path: Path, at_flush: bool, spooled: bool
) -> None:
    broker = Picky(at_flush=at_flush)
    log = log_to(broker, tmp_path)
    broker.down = spooled
    log.put([impression(n) for n in range(6)])
    log.step()
    broker.down = False
    for _ in range(3):
        log.step()
    assert sorted(broker.ids()) == ["q:0", "q:1", "q:2", "q:4", "q:5"]
    assert log._spool.size == 0 and log.trouble == ""
    assert counts(log)["refused"] == 1.0
    assert counts(log)["sent_late" if spooled else "sent"] == 5.0


def counts(log: ImpressionLog) -> dict[str, float]:
    lines = [one for one in log._metrics.text().decode().splitlines() if one.startswith("livefeed_impressions_total")]
    return {one.split('"')[1]: float(one.split()[1]) for one in lines}


def test_a_file_that_cannot_be_opened_is_said_and_counted_and_no_thread_dies_of_it(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=0.01, retry_s=0.0))
    broker.down = True
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", no_descriptor)
        log.start()
        log.put([impression(1)])
        wait_until(lambda: counts(log).get("dropped") == 1.0)
        assert "the spool cannot be" in log.trouble and "Too many open files" in log.trouble
        broker.down = False
        numbers = count(2)

        def arrives() -> bool:
            """One that comes while the last failure still stands goes to the file, which is not there either."""
            log.put([impression(next(numbers))])
            return bool(broker.ids())

        wait_until(arrives)  # what is new does not wait for the file
    wait_until(lambda: log.trouble == "")
    log.close()


def asleep(log: ImpressionLog) -> bool:
    return not log._woken.is_set()


@pytest.fixture
def soon_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sleeps as soon as there is nothing to do."""
    monkeypatch.setattr("serving.impressions.QUIET_LOOKS", 1)
    monkeypatch.setattr("serving.impressions.SPOOL_LOOK_S", 1_000.0)


@pytest.mark.usefixtures("soon_quiet")
def test_with_nothing_to_do_the_thread_sleeps_without_a_round_until_something_is_put_or_it_is_closed(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, rounds = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=0.01)), list[int]()
    submit = log._sender.submit
    monkeypatch.setattr(log._sender, "submit", lambda work: (rounds.append(1), submit(work))[1])
    log.start()
    wait_until(lambda: asleep(log))
    assert rounds == []
    log.put([impression(1)])
    wait_until(lambda: broker.ids() == ["q:1"])
    wait_until(lambda: asleep(log))
    assert len(rounds) == 1
    log.close()
    assert not log._thread.is_alive()


@pytest.mark.usefixtures("soon_quiet")
def test_the_thread_does_not_sleep_while_the_log_is_down(broker: Broker, tmp_path: Path) -> None:
    log = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=0.01, retry_s=0.0))
    log.start()
    broker.down = True
    log.put([impression(1)])
    wait_until(lambda: log.trouble == "the broker does not answer")
    broker.down = False
    wait_until(lambda: broker.ids() == ["q:1"])
    wait_until(lambda: asleep(log))
    assert log.trouble == ""
    assert "livefeed_spool_bytes 0.0" in log._metrics.text().decode()
    log.close()


@pytest.mark.usefixtures("soon_quiet")
def test_what_another_process_left_in_the_file_is_sent_by_one_that_has_nothing_to_do(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.impressions.SPOOL_LOOK_S", 0.01)
    log = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=0.01))
    log.start()
    wait_until(lambda: asleep(log))
    Spool(tmp_path / "spool" / "i.jsonl", topic=IMPRESSIONS, max_bytes=1 << 20).append([impression(1)])
    wait_until(lambda: broker.ids() == ["q:1"])
    log.close()


def test_the_thread_outlives_a_step_that_fails(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_to(broker, tmp_path, config=ImpressionConfig(linger_s=0.01, retry_s=0.0))
    with monkeypatch.context() as patch:
        patch.setattr(log, "_patience_left", lambda: 1 / 0)
        log.put([impression(0)])
        log.start()
        wait_until(lambda: log.trouble == "impressions cannot be sent: ZeroDivisionError('division by zero')")
    log.put([impression(1)])
    wait_until(lambda: broker.ids() == ["q:0", "q:1"])
    log.close()
    assert log.trouble == ""


def no_descriptor(*_: object, **__: object) -> None:
    raise OSError(24, "Too many open files")


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 5.0
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.005)
