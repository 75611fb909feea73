"""What assets are given: the settings in force, and the stores behind them, opened when first asked for."""

import time
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.partitions import days_between
from features.tables import DeltaTables
from registry.mlflow_store import MlflowRegistry
from settings import Settings, load

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from release.promotion import Promotion


class Platform(dg.ConfigurableResource[Any]):
    """The platform that LIVEFEED_ variables describe."""

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return load()

    @property
    def tables(self) -> DeltaTables:
        """The offline store."""
        return DeltaTables(self.settings.lake)

    @property
    def registry(self) -> MlflowRegistry:
        """The model registry."""
        return MlflowRegistry(self.settings.mlflow)

    def promotion(self, report: Callable[[str], None]) -> "Promotion":
        """Canaries and promotions."""
        from release.promotion_parts import open_promotion

        settings = self.settings
        return open_promotion(
            settings.var, model_server=settings.model_server, mlflow=settings.mlflow, proxies=[settings.admin],
            token=settings.admin_token, time_lapse=settings.clock == "request", who="dagster", report=report,
        )  # fmt: skip

    def spark(self) -> "SparkSession":
        """The local Spark of this process."""
        from features.spark import jars_in, session

        settings = self.settings
        jars = jars_in(settings.jars / "delta")
        return session(jars=jars, memory=settings.spark_memory, cores=settings.spark_cores)

    def stop_spark(self) -> None:
        """Give Spark's memory back before TensorFlow wants it."""
        from features.spark import stop

        stop()


def days_of(context: dg.AssetExecutionContext) -> tuple[date, ...]:
    """The event dates this run is to materialise."""
    keys = context.partition_key_range
    return days_between(date.fromisoformat(keys.start), date.fromisoformat(keys.end))


def logs_to(context: dg.AssetExecutionContext) -> Callable[[str], None]:
    """A report that appears as the run's log line."""
    return lambda line: context.log.info(line)


def steps_to(context: dg.AssetExecutionContext) -> Callable[..., None]:
    """A training report (stage, done, total, note) that appears as the run's log lines."""

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        context.log.info(f"{stage}: {done}/{total} {note}".rstrip())

    return report


def counts_to(context: dg.AssetExecutionContext, what: str, *, every_s: float = 2.0) -> Callable[[int, int], None]:
    """A report (done, total) that appears as the run's log lines, at most one in `every_s` wall seconds."""
    said = -every_s

    def report(done: int, total: int) -> None:
        nonlocal said
        if done == total or time.monotonic() - said >= every_s:
            said = time.monotonic()
            context.log.info(f"{done} of {total} {what}")

    return report
