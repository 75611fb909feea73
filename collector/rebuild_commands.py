"""`livefeed features rebuild | backfill NAME`: the online store from the offline tables, all of it or one feature."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from collector.errors import CollectorError
from events.errors import EventsError
from features.errors import FeaturesError
from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from features.redis import RedisStore

Result = TypeVar("Result")


def mount(app: typer.Typer) -> None:
    """Add the commands to the group of the features room: they are about features, and need the collector's code."""
    app.command()(rebuild)
    app.command()(backfill)


def rebuild(
    replace: Annotated[bool, typer.Option("--replace", help="empty the online store first")] = False,
) -> None:
    """Fill the online store from the offline tables alone, as after its loss; no collector may run."""
    from collector.rebuild import rebuild as fill
    from features.table_lock import no_collectors

    def work(settings: Settings, store: "RedisStore") -> int:
        with no_collectors(settings.lake):
            if replace:
                store.clear()
            return fill(settings.lake, store, report=typer.echo)

    written = _or_sentence(work)
    typer.echo(f"{written} records written; the collector goes on from there")


def backfill(
    name: Annotated[str, typer.Argument(help="the feature, as `livefeed features list` names it: user.plays_7d")],
) -> None:
    """Fill one feature from history in both stores: every online record, and the daily tables there are."""
    from collector.rebuild import backfill as fill
    from collector.rebuild import feature_state
    from features.table_lock import no_collectors

    def work(settings: Settings, store: "RedisStore") -> int:
        feature_state(name)
        with no_collectors(settings.lake):
            return fill(settings.lake, store, name, report=typer.echo)

    written = _or_sentence(work)
    typer.echo(f"{written} online records filled")
    days = _or_sentence(lambda settings, store: _daily(settings, name))
    typer.echo(f"{days} days of the daily table written again" if days else "no daily table has this feature")


def _daily(settings: Settings, name: str) -> int:
    """Write the days of the feature's daily table again; 0 when it is in none, or there is none yet."""
    from features.definitions import FEATURES
    from features.offline import build_feature_tables, table_of
    from features.offline_tables import open_table
    from features.spark import jars_in, session

    feature = next(one for one in FEATURES if f"{one.entity.value}.{one.name}" == name)
    table = open_table(settings.lake, table_of(feature.entity)) if feature.spark else None
    if table is None or not table.rows:
        return 0
    spark = session(jars=jars_in(settings.jars / "delta"), memory=settings.spark_memory, cores=settings.spark_cores)
    build_feature_tables(spark, settings.lake, dates=sorted(table.rows), report=typer.echo)
    return len(table.rows)


def _or_sentence(work: "Callable[[Settings, RedisStore], Result]") -> Result:
    """The result, or one sentence and exit status 1 (2 for a bad setting)."""
    from features.redis import RedisStore

    try:
        settings = load()
        store = RedisStore(settings.redis)
        try:
            return work(settings, store)
        finally:
            store.close()
    except SettingsError as error:
        typer.echo(f"livefeed: {error}", err=True)
        raise typer.Exit(2) from None
    except (CollectorError, EventsError, FeaturesError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
