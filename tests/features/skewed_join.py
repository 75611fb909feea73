"""A point-in-time join of one key with very many rows in a small heap: a process of its own, which prints what it saw.

`python -m tests.features.skewed_join`: 300,000 impressions and as many values, half a gigabyte, in a heap of 512 MB. Measured
on two busy cores: 18 s; resident memory of the whole JVM at most 613 MB, of the Python driver 167 MB.
"""

from pathlib import Path

from pyspark.sql import functions as F

from features import spark as room
from features.point_in_time import as_of_join
from settings import load
from stack.jars import delta_jars

ROWS, COPIES = 300_000, 50


def main() -> None:
    """Join, check every row, print one line."""
    spark = room.session(jars=delta_jars(load().jars), memory="512m", cores=2)
    try:
        number = F.col("id").cast("string")
        wide = [F.repeat(F.lpad(number, 6, "0"), COPIES).alias(f"w{k}") for k in range(6)]
        right = spark.range(ROWS).select(
            F.lit("whale").alias("key"), F.timestamp_seconds(F.col("id") * 10).alias("about"),
            F.timestamp_seconds(F.col("id") * 10 + 5).alias("written"), F.col("id").alias("value"), *wide,
        )  # fmt: skip
        when = F.timestamp_seconds(F.col("id") * 10 + 4).alias("at")  # a second before its own value is written
        left = spark.range(ROWS).select(F.lit("whale").alias("key"), when, "id")
        found = as_of_join(left, right, key="key", at="at", event_at="about", written_at="written")
        before = F.lpad((F.col("id") - 1).cast("string"), 6, "0")
        right_one = F.when(F.col("id") == 0, F.col("value").isNull()).otherwise(
            (F.col("value") == F.col("id") - 1) & (F.col("w5") == F.repeat(before, COPIES))
        )
        counts = found.agg(F.count("*").alias("rows"), F.count(F.when(right_one, 1)).alias("right")).first()
        process = spark._jvm.java.lang.ProcessHandle.current().pid()
        print(
            f"rows={counts['rows']} right={counts['right']} peak_mb={peak_mb(process):.0f} own_mb={peak_mb('self'):.0f}"
        )
    finally:
        room.stop()


def peak_mb(process: int | str) -> float:
    """The largest resident memory a process has had."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3


if __name__ == "__main__":
    main()
