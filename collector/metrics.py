"""The collector's counts as Prometheus metrics, read when they are asked for: nothing is paid per event."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as Source

from collector.report import Report

PREFIX = "livefeed_collector"


class ReportMetrics(Source):
    """Shows a Report."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """One family a figure."""
        report = self._report
        events = CounterMetricFamily(f"{PREFIX}_events", "Events by topic and outcome.", labels=["topic", "outcome"])
        for (topic, outcome), count in list(report.outcomes.items()):
            events.add_metric([topic, outcome], count)
        yield events
        lag = GaugeMetricFamily(f"{PREFIX}_lag_messages", "Messages not committed yet.", labels=["topic", "partition"])
        for place, behind in list(report.lag.items()):
            lag.add_metric([place.topic, str(place.partition)], behind)
        yield lag
        for name, text, value in (
            ("duplicates", "Events dropped because their id counted already.", report.total("duplicate")),
            ("late", "Events stored but too late for their windows.", report.total("late")),
            ("dead_letters", "Messages that could not be read.", report.total("dead_letter")),
            ("erased", "Events dropped because they are about a person who was erased.", report.total("erased")),
            ("applied", "Events folded into online features.", report.applied),
            ("commits", "Commits to the offline tables.", report.commits),
            ("commit_seconds", "Seconds spent in commits.", report.commit_s),
            ("flushes", "Writes to the online store.", report.flushes),
            ("flush_seconds", "Seconds spent in writes to the online store.", report.flush_s),
            ("retries", "Times that a store or the log did not answer.", report.retries),
        ):
            yield CounterMetricFamily(f"{PREFIX}_{name}", text, value=value)
        if report.watermark is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_watermark_seconds", "Largest event time applied.", value=report.watermark
            )


def serve(report: Report, *, host: str, port: int) -> None:
    """Answer /metrics on that address from a thread that ends with the process."""
    registry = CollectorRegistry()
    registry.register(ReportMetrics(report))
    start_http_server(port, addr=host, registry=registry)
