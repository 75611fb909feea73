"""Impressions reach the log when it answers, wait in a bounded file while it does not, and are sent when it is back."""

from pathlib import Path

import pytest

from events.clock import utc
from events.errors import LogUnavailable
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
