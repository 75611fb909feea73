"""`livefeed features compact | expire | vacuum | versions`: upkeep of the offline tables, by hand or by a timetable."""

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from events.clock import WallClock, utc
from features.errors import FeaturesError, LockHeld
from settings import Settings, SettingsError, load

Result = TypeVar("Result")
Wait = Annotated[float, typer.Option(min=0.0, help="seconds to wait for upkeep that is under way")]


def mount(app: typer.Typer) -> None:
    """Add the commands to the group of the features room."""
    for command in (compact, expire, vacuum, versions):
        app.command()(command)


def compact(wait_s: Wait = 60.0) -> None:
    """Join the small files of every offline table; readers and writers go on."""
    from features.table_log import tables_in
    from features.tables import DeltaTables

    def work(settings: Settings) -> None:
        tables = DeltaTables(settings.lake)
        for name in tables_in(settings.lake):
            before = tables.files(name)
            if not tables.compact(name, wait_s=wait_s):
                raise LockHeld(
                    f"{name} was not compacted: other upkeep of {settings.lake} is under way, try again later"
                )
            typer.echo(f"{name}: {before} files, now {tables.files(name)}")

    _or_sentence(work)


def expire(
    days: Annotated[int | None, typer.Option(min=0, help="Default: the setting LIVEFEED_RETENTION_DAYS.")] = None,
    wait_s: Wait = 60.0,
) -> None:
    """Drop the days of event time that are older than the retention; media and profiles are kept whole."""
    from features.table_upkeep import expire as drop

    def work(settings: Settings) -> dict[str, int]:
        keep = settings.retention_days if days is None else days
        return drop(settings.lake, keep_days=keep, today=utc(WallClock().now()).date(), wait_s=wait_s)

    _listed(_or_sentence(work), "rows dropped", "no day is older than the retention")


def vacuum(
    hours: Annotated[int | None, typer.Option(min=1, help="Default: the setting LIVEFEED_VACUUM_HOURS.")] = None,
    wait_s: Wait = 60.0,
) -> None:
    """Delete the files that no version of the last hours needs; older versions can no longer be read then."""
    from features.table_upkeep import vacuum as clean

    def work(settings: Settings) -> dict[str, int]:
        return clean(settings.lake, keep_hours=settings.vacuum_hours if hours is None else hours, wait_s=wait_s)

    _listed(_or_sentence(work), "files deleted", "there is no table yet")


def versions() -> None:
    """Every offline table: its version, the oldest one that can still be read, files and size."""
    from features.table_upkeep import versions as found

    typer.echo(f"{'table':20} {'version':>8} {'oldest':>8} {'files':>7} {'MB':>10}")
    for one in _or_sentence(lambda settings: found(settings.lake)):
        typer.echo(f"{one.table:20} {one.newest:>8} {one.oldest:>8} {one.files:>7} {one.bytes / 1e6:>10.1f}")


def _listed(counts: dict[str, int], what: str, nothing: str) -> None:
    for name, count in counts.items():
        typer.echo(f"{name}: {count:,} {what}")
    if not counts:
        typer.echo(nothing)


def _or_sentence(work: Callable[[Settings], Result]) -> Result:
    """The result, or one sentence and exit status 1 (2 for a bad setting)."""
    try:
        return work(load())
    except SettingsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    except FeaturesError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
