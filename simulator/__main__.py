"""The commands of the world: `livefeed world run | report | worlds`, also `python -m simulator run`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from events.errors import EventsError
from events.log import EventWriter, Header
from events.schema import Event
from settings import Settings, SettingsError, load
from simulator import report_commands
from simulator.config import WorldConfig
from simulator.errors import FeedFailed, WorldError
from simulator.feed import HttpFeed, MixedFeed, RandomFeed
from simulator.report import WorldReport
from simulator.settle import CollectorSettled
from simulator.world import Progress as Report
from simulator.world import World
from simulator.worlds import WORLDS, named, turned

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
DEFAULT = WorldConfig()


@app.callback()
def commands() -> None:
    """A platform with viewers and hosts whose truth is known."""


@app.command()
def run(
    world: Annotated[str, typer.Option(help=f"One of {', '.join(WORLDS)}.")] = "demo",
    hours: Annotated[float, typer.Option(help="Event time to play.")] = 48.0,
    viewers: Annotated[int | None, typer.Option(help="Viewers; the world's own number when left out.")] = None,
    hosts: Annotated[int | None, typer.Option(help="Live hosts; their heartbeats are most of the events.")] = None,
    items: Annotated[int | None, typer.Option(help="Media items at the start.")] = None,
    start: Annotated[datetime, typer.Option(help="Event time (UTC) at which viewers come.")] = DEFAULT.start_at,
    seed: Annotated[int, typer.Option(help="Equal seeds and feeds give equal events.")] = DEFAULT.seed,
    duplicates: Annotated[float | None, typer.Option(help="Share of events sent twice.")] = None,
    late: Annotated[float | None, typer.Option(help="Share of events sent late.")] = None,
    broken: Annotated[float | None, typer.Option(help="Share of events with a broken copy beside them.")] = None,
    lost_heartbeats: Annotated[float | None, typer.Option(help="Share of heartbeats never sent.")] = None,
    dial: Annotated[
        list[str] | None, typer.Option(help="Any other dial, as name=value, e.g. change.leaving=0.2; may be repeated.")
    ] = None,
    random_feeds: Annotated[
        float, typer.Option(help="Share of feeds the world draws at random itself, and logs.")
    ] = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only: no Kafka, random feeds.")] = False,
) -> None:
    """Play a world: events to Kafka, feeds from the proxy (started with LIVEFEED_CLOCK=request)."""
    given: dict[str, Any] = {
        "viewers": viewers, "hosts": hosts, "items": items, "duplicate_share": duplicates, "late_share": late,
        "broken_share": broken, "lost_heartbeat_share": lost_heartbeats,
    }  # fmt: skip
    try:
        settings = load()
        config = replace(named(world), seed=seed, start_at=start.replace(tzinfo=UTC))
        config = replace(config, **{name: value for name, value in given.items() if value is not None})
        for name, _, value in (one.partition("=") for one in dial or []):
            config = turned(config, name, value)
        done = _dry(config, hours) if dry_run else _real(config, hours, settings, random_share=random_feeds)
    except (WorldError, EventsError, SettingsError) as error:
        typer.echo(f"livefeed: {error}", err=True)
        raise typer.Exit(1) from None
    _show(done)


@app.command()
def worlds(
    name: Annotated[str, typer.Argument(help="A world whose dials to list; all worlds when left out.")] = "",
) -> None:
    """The named worlds and what each is for; with a name, its dials."""
    try:
        rows = _dials(named(name)) if name else [(word, one.purpose) for word, one in WORLDS.items()]
    except WorldError as error:
        typer.echo(f"livefeed: {error}", err=True)
        raise typer.Exit(1) from None
    width = max(len(word) for word, _ in rows)
    for word, said in rows:
        typer.echo(f"{word:{width}}  {said}")


def _dials(config: WorldConfig) -> list[tuple[str, str]]:
    """Every dial by the name that `--dial` takes, and its value."""
    rows = []
    for one in fields(config):
        value = getattr(config, one.name)
        inner = fields(value) if is_dataclass(value) else ()
        rows += [(f"{one.name}.{dial.name}", str(getattr(value, dial.name))) for dial in inner] or [
            (one.name, str(value))
        ]
    return rows


def _dry(config: WorldConfig, hours: float) -> WorldReport:
    playing = World(config)
    with _bar(hours) as report:
        return playing.advance(hours, _Nowhere(), RandomFeed(playing.on, seed=config.seed), report=report)


def _real(config: WorldConfig, hours: float, settings: Settings, *, random_share: float) -> WorldReport:
    from events.kafka import KafkaWriter

    playing, product = World(config), HttpFeed(settings.proxy)
    writer: EventWriter = KafkaWriter(settings.kafka)
    random = RandomFeed(playing.on, seed=config.seed, writer=writer)
    feed = MixedFeed(product, random, share=random_share, seed=config.seed)
    settle = CollectorSettled(f"http://{settings.host}:{settings.metrics_port}")
    try:
        with _bar(hours) as report:
            done = playing.advance(hours, writer, feed, report=report, settle=settle)
    finally:
        product.close()
        writer.close()
    if done.feed_requests and done.feed_errors == done.feed_requests:
        raise FeedFailed(f"none of {done.feed_requests} feed requests was answered: {done.first_error}")
    return done


class _Nowhere:
    """An EventWriter that keeps nothing: the world's own report counts."""

    def send(self, event: Event) -> None:
        """Drop the event."""

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: Sequence[Header] = ()) -> None:
        """Drop the bytes."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing to let go."""


@contextmanager
def _bar(hours: float) -> Iterator[Report]:
    """A progress bar over the hours of event time, on stderr."""
    columns = (
        TextColumn("world"),
        BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:g} h"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("world", total=hours)
        yield lambda done: bar.update(task, completed=done)


def _show(done: WorldReport) -> None:
    """The counts as a plain table: one name and one value a line."""
    rows: list[tuple[str, object]] = [(f"messages to {topic}", count) for topic, count in sorted(done.produced.items())]
    rows += [
        ("duplicates among them", done.duplicates),
        ("broken among them", done.broken),
        ("late among them", done.late),
    ]
    rows += [(f"held back or misdated: {fault}", count) for fault, count in sorted(done.held.items())]
    rows += [(f"never sent: {kind}", count) for kind, count in sorted(done.lost.items())]
    rows += [
        ("sessions", done.sessions), ("feed requests", done.feed_requests),
        ("answered by the world at random", done.own_feeds), ("feed errors", done.feed_errors),
        ("feeds that fell back", done.feed_degraded), ("feeds with nothing", done.feed_empty), ("items shown", done.shown),
        ("shown but over", done.feed_unknown),
        ("clicks", done.clicks), ("clicks on rooms just closed", done.closed_before_entry),
        ("breaks after a session", done.breaks), ("rooms entered", done.events["room_entered"]),
        ("click rate", _number(done.click_rate, ".4f")), ("feed p50 ms", _number(done.feed_ms_at(0.5), ".1f")),
        ("feed p99 ms", _number(done.feed_ms_at(0.99), ".1f")), ("seconds waited for the product", f"{done.settle_s:.1f}"),
    ]  # fmt: skip
    for name, value in rows:
        typer.echo(f"{name:36} {value:>12}")
    if done.first_error:
        typer.echo(f"first feed error: {done.first_error}")


def _number(value: float | None, form: str) -> str:
    return "none" if value is None else format(value, form)


report_commands.mount(app)

if __name__ == "__main__":
    app()
