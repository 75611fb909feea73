"""Run benchmarks: `livefeed bench NAME [--json]`, `livefeed bench --all` (also writes benchmarks/report.html)."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import write_report
from benchmarks.result import BenchError, Result
from settings import Settings, load

BENCHES = (
    "attribution", "audit", "canaries", "controls", "diversity", "drill", "events", "features", "feed", "freshness",
    "gate", "memory", "movielens", "neighbours", "off-policy", "parity", "policies", "rank", "recall", "swap", "world",
)  # fmt: skip
REPORT = Path(__file__).parent / "report.html"


def _run(name: str, settings: Settings, seed: int) -> Result:
    """Run one benchmark; its module is imported only now (TensorFlow, Spark)."""
    measure: Callable[[Settings, int, Callable[[str], None]], Result] = import_module(
        f"benchmarks.{name.replace('-', '_')}"
    ).measure
    return measure(settings, seed, lambda line: print(line, file=sys.stderr))


def bench(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(BENCHES)}.")] = "",
    every: Annotated[bool, typer.Option("--all", help="Run every benchmark and write benchmarks/report.html.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Only the JSON line on standard output.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the load.")] = 7,
) -> None:
    """Measure, and print one JSON line a benchmark as the last line."""
    names = list(BENCHES) if every else [name]
    unknown = [one for one in names if one not in BENCHES]
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; allowed are {', '.join(BENCHES)}", file=sys.stderr)
        raise typer.Exit(2)
    results = []
    for one in names:
        try:
            results.append(_run(one, load(), seed))
        except BenchError as error:
            print(f"bench {one}: {error}", file=sys.stderr)
            raise typer.Exit(1) from None
        if not json:
            for held in results[-1].bars:
                print(
                    f"{held.name} = {held.value} {held.op} {held.bound}: {'holds' if held.holds else 'does not hold'}"
                )
        print(results[-1].line())
    if every:
        write_report(results, REPORT)
        print(f"report: {REPORT}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(bench)
