"""`livefeed events forget --user ID | --pending`: erase a person for good, and say what was removed and what ages out."""

from typing import Annotated

import typer

from settings import Settings, SettingsError, load

SETTLE_S = 3.0  # beyond a commit interval: tombstones are looked at every second, flushes take less


def mount(app: typer.Typer) -> None:
    """Add the command to the group of the events room: it reaches into every process's places."""
    app.command()(forget)


def forget(
    user: Annotated[str, typer.Option("--user", metavar="ID", help="whom to erase, as viewer, creator and host")] = "",
    pending: Annotated[
        bool, typer.Option("--pending", help="everybody whose profile_erased event was stored and is not done")
    ] = False,
    settle_s: Annotated[
        float | None, typer.Option(min=0.0, help="wait for what is on its way. Default: a commit interval and 3 s")
    ] = None,
    wait_s: Annotated[float, typer.Option(min=0.0, help="how long to wait for builds and upkeep under way")] = 600.0,
) -> None:
    """Erase a person for good: tombstone, tables with their old versions, online store, dead letters, local spools.

    A run that was stopped is finished by the next. Exit 1 when something could not be reached: run it again.
    """
    if bool(user) == pending:
        raise _fail("give either --user ID or --pending", 2)
    try:
        settings = load()
        _all(settings, user, settle_s=settle_s, wait_s=wait_s)
    except SettingsError as error:
        raise _fail(error, 2) from None
    except _errors() as error:
        raise _fail(f"{error}; nothing that is done comes back, run it again for the rest") from None


def _all(settings: Settings, user: str, *, settle_s: float | None, wait_s: float) -> None:
    from release.forget import pending

    whom = [user] if user else pending(settings.lake)
    if not whom:
        typer.echo("nobody asked to be forgotten")
    settle = settings.commit_every_s + SETTLE_S if settle_s is None else settle_s
    done = [_one(settings, one, settle_s=settle, wait_s=wait_s) for one in whom]
    if not all(done):
        raise _fail("some files were being written and could not be looked into; run it again in a minute")


def _one(settings: Settings, user_id: str, *, settle_s: float, wait_s: float) -> bool:
    from events.clock import WallClock
    from features.redis import RedisStore
    from release.forget import forget as erase
    from release.forget import places_under

    store = RedisStore(settings.redis)
    try:
        places = places_under(settings.var, lake=settings.lake, store=store, kafka=settings.kafka)
        found = erase(user_id, places, clock=WallClock(), settle_s=settle_s, wait_s=wait_s, report=typer.echo)
    finally:
        store.close()
    typer.echo("removed:")
    for place, count in found.removed.items():
        typer.echo(f"  {place}: {count}")
    typer.echo("goes by itself:")
    for line in found.ages_out:
        typer.echo(f"  {line}")
    return found.complete


def _errors() -> tuple[type[Exception], ...]:
    from events.errors import EventsError
    from features.errors import FeaturesError

    return (EventsError, FeaturesError)


def _fail(error: object, status: int = 1) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(status)
