"""The collector as a process: its reader, writer and stores put together, its metrics answered, its place taken."""

import threading
from pathlib import Path

from collector.config import COLLECTED, CollectorConfig
from collector.metrics import serve
from collector.report import Report
from collector.run import collect
from collector.tombstones import Tombstones
from events.clock import WallClock
from events.kafka import KafkaReader, KafkaWriter
from features.erased import ErasedPeople
from features.garbage import seldom_pass_over_everything
from features.redis import RedisStore
from features.table_lock import collecting
from features.tables import DeltaTables


def run_process(
    kafka: str, redis: str, lake: Path, *, metrics: tuple[str, int], group: str | None, config: CollectorConfig,
    stop: threading.Event, report: Report,
) -> None:  # fmt: skip
    """Collect until `stop` is set. LogUnavailable at the start only; OSError when the metrics address is taken."""
    reader, writer = KafkaReader(kafka, COLLECTED, group=group), KafkaWriter(kafka)
    serve(report, host=metrics[0], port=metrics[1])
    clock = WallClock()
    seldom_pass_over_everything()
    tables, store = DeltaTables(lake), RedisStore(redis)
    with collecting(lake):
        collect(
            reader, writer, tables, store, config=config, clock=clock, stop=stop, report=report,
            tombstones=Tombstones(ErasedPeople(lake), clock=clock),
        )  # fmt: skip
    reader.close()
    writer.close()
    store.close()
