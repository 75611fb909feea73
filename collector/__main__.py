"""The collector's commands: `livefeed collector run | status [--wait]` (or `python -m collector ...`)."""

import logging
import signal
import sys
import threading
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="collector", help="Events into the offline tables and the online features.", no_args_is_help=True
)


def _fail(error: object) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(1)


@app.callback()
def collector() -> None:
    """Events into the offline tables and the online features."""


@app.command()
def run(
    group: Annotated[
        str, typer.Option("--group", help="share the partitions with the other collectors of this group")
    ] = "",
) -> None:
    """Read the log into both stores until SIGTERM or Ctrl-C, then write what is left and exit 0.

    Alone it reads every partition, and goes on at once after a crash; a group waits until the broker misses a dead member.
    """
    from collector.config import CollectorConfig
    from collector.process import run_process
    from collector.report import Report
    from events.errors import EventsError
    from features.errors import FeaturesError
    from settings import SettingsError, load

    log, stop, report = _log(), threading.Event(), Report()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        settings = load()
        config = CollectorConfig(
            lateness_s=settings.lateness_s,
            ahead_s=settings.ahead_s if settings.clock == "wall" else None,
            flush_every_s=settings.flush_every_s,
            commit_every_s=settings.commit_every_s,
        )
        log.info("collecting", kafka=settings.kafka, redis=settings.redis, lake=str(settings.lake))
        run_process(
            settings.kafka,
            settings.redis,
            settings.lake,
            metrics=(settings.host, settings.metrics_port),
            group=group or None,
            config=config,
            stop=stop,
            report=report,
        )
    except (SettingsError, EventsError, FeaturesError) as error:
        raise _fail(error) from None
    except OSError as error:
        raise _fail(f"the metrics port {settings.metrics_port} cannot be used: {error}") from None
    counts = {kind: report.total(kind) for kind in ("stored", "late", "duplicate", "dead_letter")}
    log.info("stopped", applied=report.applied, **counts)


def _log() -> Any:
    """The log on standard error, with the clients' warnings."""
    import structlog

    logging.basicConfig(
        level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)  # warns of every pause of 0.1 s
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    return structlog.get_logger("collector")


@app.command()
def status(
    wait: Annotated[bool, typer.Option("--wait", help="wait until both stores have what the log holds now")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.0, help="how long to wait")] = 120.0,
) -> None:
    """Where every partition ends, and how far each store is; exit 1 when --wait runs out of time."""
    from collector.errors import CollectorError
    from collector.lag import lag, wait_until_stored
    from events.errors import EventsError
    from features.errors import FeaturesError
    from features.redis import RedisStore
    from features.tables import DeltaTables
    from settings import SettingsError, load

    try:
        settings = load()
        tables, store = DeltaTables(settings.lake), RedisStore(settings.redis)
        if wait:
            show = _progress if sys.stderr.isatty() else lambda done, total: None
            places = wait_until_stored(settings.kafka, tables, store=store, timeout_s=timeout_s, report=show)
        else:
            places = lag(settings.kafka, tables, store=store)
    except (SettingsError, EventsError, FeaturesError, CollectorError) as error:
        raise _fail(error) from None
    typer.echo(f"{'topic':24} {'part':>4} {'end':>10} {'stored':>10} {'applied':>10} {'lag':>8}")
    for one in places:
        name, number = one.place
        typer.echo(f"{name:24} {number:>4} {one.end:>10} {one.stored:>10} {one.applied or 0:>10} {one.behind:>8}")
    typer.echo(f"{sum(one.end for one in places)} messages, {sum(one.behind for one in places)} behind")


def _progress(done: int, total: int) -> None:
    typer.echo(f"\r{done} of {total} messages stored", err=True, nl=done >= total)


if __name__ == "__main__":
    app()
