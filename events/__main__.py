"""The log's commands: `livefeed events topics | schema | produce | replay | dead-letters` (or `python -m events ...`)."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="events", help="What happened: topics, schema, produce, replay, dead letters.", no_args_is_help=True
)
dead_letters = typer.Typer(help="Messages that could not be read: list them, send them again.", no_args_is_help=True)
app.add_typer(dead_letters, name="dead-letters")
SHOWN = 100  # characters of an original message in a listing


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn the room's errors into one line and exit status 1."""
    from events.errors import EventsError
    from settings import SettingsError

    try:
        yield
    except (EventsError, SettingsError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def topics() -> None:
    """List the topics: key, offline table, event types, and how many messages each holds."""
    from events.kafka import end_offsets
    from events.topics import DEAD_LETTERS, TOPICS
    from settings import load

    with _one_sentence():
        ends = end_offsets(load().kafka, [*TOPICS, DEAD_LETTERS])
    counts = {name: [end for place, end in ends.items() if place.topic == name] for name in (*TOPICS, DEAD_LETTERS)}
    typer.echo(f"{'topic':24} {'key':12} {'table':12} {'types':>5} {'partitions':>10} {'messages':>10}")
    for name, held in counts.items():
        known = TOPICS.get(name)
        key, table, types = (known.key, known.table, len(known.types)) if known else ("-", "-", 0)
        typer.echo(f"{name:24} {key:12} {table:12} {types:>5} {len(held):>10} {sum(held):>10}")


@app.command()
def schema(
    name: Annotated[str | None, typer.Option("--topic", help="this topic alone; default: all, by name")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder to write one file a topic to; default: print")
    ] = None,
) -> None:
    """Print or write the topics' contracts: the JSON Schema of what may be sent, keys, meanings, examples."""
    from events import contract
    from events.topics import TOPICS, topic

    with _one_sentence():
        names = tuple(TOPICS) if name is None else (topic(name).name,)
        if out is not None:
            for path in contract.write(out, names):
                typer.echo(path)
            return
        documents = {one: contract.contract(one) for one in names}
    typer.echo(contract.text(documents if name is None else documents[name]), nl=False)


@app.command()
def produce(
    file: Annotated[str, typer.Argument(help="file of JSON lines, one event a line; - for standard input")],
    topic: Annotated[str, typer.Option("--topic", help="the topic the events belong on")],
    raw: Annotated[bool, typer.Option("--raw", help="send lines that are no events too, as they are")] = False,
) -> None:
    """Send events from a file of JSON lines."""
    import events.topics
    from events import lines
    from events.errors import EventsError
    from events.kafka import KafkaWriter
    from settings import load

    with _one_sentence():
        events.topics.topic(topic)
        if file != "-" and not Path(file).is_file():
            raise EventsError(f"there is no file {file!r}; give a file of JSON lines, or - for standard input")
        writer = KafkaWriter(load().kafka)
        try:
            source = sys.stdin.buffer if file == "-" else Path(file).open("rb")  # noqa: SIM115 - closed below
            with source:
                sent = lines.produce(source, writer, topic, raw=raw)
        finally:
            writer.close()
    typer.echo(f"{sent} messages sent to {topic}")


@app.command()
def replay(
    dataset: Annotated[str, typer.Argument(help="movielens or kuairand")],
    path: Annotated[Path, typer.Option("--path", help="folder of the data set")],
    speed: Annotated[
        float | None, typer.Option("--speed", help="event seconds a wall second; default: as fast as it goes")
    ] = None,
) -> None:
    """Turn a data set into events at their own event times and send them through the log."""
    from collections import Counter
    from datetime import datetime

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from events import datasets
    from events.kafka import KafkaWriter
    from events.replay import replay as send_all
    from events.schema import Event
    from events.topics import topic_of
    from settings import load

    counts: Counter[str] = Counter()

    def counted(source: Iterator[Event]) -> Iterator[Event]:
        for event in source:
            counts[topic_of(event).name] += 1
            yield event

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with _one_sentence():
        source = counted(datasets.read(dataset, path))
        writer = KafkaWriter(load().kafka)
        try:
            with Progress(*columns, console=Console(stderr=True)) as progress:
                bar = progress.add_task(f"reading {dataset}", total=None)

                def show(sent: int, at: datetime) -> None:
                    progress.update(bar, description=f"{sent} events sent, event time {at:%Y-%m-%d %H:%M}")

                sent = send_all(source, writer, speed=speed, report=show)
        finally:
            writer.close()
    for name, count in sorted(counts.items()):
        typer.echo(f"{name:24} {count:>10}")
    typer.echo(f"{sent} events sent")


@dead_letters.command("list")
def list_letters(limit: Annotated[int, typer.Option("--limit", min=1, help="the last so many")] = 20) -> None:
    """Show the last dead letters: where each lay, why it could not be read, and how it begins."""
    from events.dead_letters import read_dead_letters
    from settings import load

    with _one_sentence():
        letters = read_dead_letters(load().kafka)
    for one in letters[-limit:]:
        typer.echo(f"{one.topic}/{one.partition}@{one.offset}  {one.reason}")
        typer.echo(f"    {one.value[:SHOWN].decode(errors='backslashreplace')}")
    typer.echo(f"{min(limit, len(letters))} of {len(letters)} dead letters shown")


@dead_letters.command("replay")
def replay_letters(
    everything: Annotated[bool, typer.Option("--all", help="also those that still cannot be read")] = False,
) -> None:
    """Send the original bytes again to their topic: those that can be read now, or all."""
    from events.dead_letters import read_dead_letters, replay_dead_letters
    from events.kafka import KafkaWriter
    from settings import load

    with _one_sentence():
        bootstrap = load().kafka
        letters = read_dead_letters(bootstrap)
        writer = KafkaWriter(bootstrap)
        try:
            sent = replay_dead_letters(letters, writer, everything=everything)
        finally:
            writer.close()
    typer.echo(f"{sent} of {len(letters)} dead letters sent again; {len(letters) - sent} still cannot be read")


if __name__ == "__main__":
    app()
