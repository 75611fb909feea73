"""The one local Spark of this process, with Delta Lake: UTC, loopback only, a handful of shuffle partitions, no web page."""

from __future__ import annotations

import datetime as dt
import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import SparkUnavailable

if TYPE_CHECKING:  # Spark takes a second to import: only who starts a session pays
    from pyspark.sql import DataFrame, SparkSession

SHUFFLE_PARTITIONS = 4
_DELTA = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # delta-rs's Arrow reader refuses deletion vectors
    "spark.databricks.delta.properties.defaults.enableDeletionVectors": "false",
    "spark.databricks.delta.snapshotPartitions": str(SHUFFLE_PARTITIONS),
}
_LOCAL = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.shuffle.partitions": str(SHUFFLE_PARTITIONS),
    "spark.sql.adaptive.coalescePartitions.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
# One quick compiler, one collector thread: this halves the CPU of jobs that last seconds. That compiler alone reserves only
# 48 MB for compiled code, which wide plans fill.
_JAVA = "-Duser.timezone=UTC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseSerialGC"
# Spark's files of this process, removed at its exit.
_SCRATCH: list[tempfile.TemporaryDirectory[str]] = []
_LOGGING = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n%ex{short}
rootLogger.level = error
rootLogger.appenderRef.stdout.ref = console
"""


def jars_in(folder: Path) -> list[Path]:
    """The Java archives in a folder; SparkUnavailable when there are none."""
    found = sorted(folder.expanduser().glob("*.jar"))
    if not found:
        raise SparkUnavailable(
            f"no Java archives of Delta Lake are in {folder}; `livefeed stack jars` downloads them once"
        )
    return found


def session(*, jars: Sequence[Path], memory: str = "2g", cores: int = 2) -> SparkSession:
    """The session of this process, started on the first call; later calls return it whatever they ask for."""
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        return running
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    _SCRATCH.append(tempfile.TemporaryDirectory(prefix="livefeed-spark-", ignore_cleanup_errors=True))
    scratch = Path(_SCRATCH[-1].name)
    (scratch / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
    builder = SparkSession.builder.master(f"local[{cores}]").appName("livefeed")
    settings = _LOCAL | _DELTA
    settings["spark.driver.memory"] = memory
    settings["spark.jars"] = ",".join(str(jar) for jar in jars)
    settings["spark.local.dir"] = str(scratch)
    settings["spark.sql.warehouse.dir"] = str(scratch / "warehouse")
    settings["spark.driver.extraJavaOptions"] = f"{_JAVA} -Dlog4j2.configurationFile={scratch}/log4j2.properties"
    for name, value in settings.items():
        builder = builder.config(name, value)
    try:
        return builder.getOrCreate()
    except Exception as error:  # py4j and PySpark have no common root
        raise SparkUnavailable(f"the local Spark did not start: {str(error).splitlines()[0]}") from error


def stop() -> None:
    """End the session of this process, if there is one."""
    from pyspark.sql import SparkSession

    running = SparkSession.getActiveSession()
    if running is not None:
        running.stop()


def read_table(spark: SparkSession, lake: Path, table: str, *, version: int | None = None) -> DataFrame:
    """An offline table, at its newest version or an older one."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(str(lake / table))


def replace_dates(frame: DataFrame, lake: Path, table: str, *, column: str, dates: Collection[dt.date]) -> None:
    """Write the rows as the whole content of those dates of `<lake>/<table>`: running it again changes nothing."""
    listed = ", ".join(f"DATE '{day.isoformat()}'" for day in sorted(dates))
    writer = frame.repartition(column).write.format("delta").mode("overwrite").partitionBy(column)
    writer.option("replaceWhere", f"{column} IN ({listed})").option("mergeSchema", "true").save(str(lake / table))
