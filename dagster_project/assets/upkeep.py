"""Group upkeep: people who asked to be forgotten are erased, old days and old files go; once a night."""

import dagster as dg

from dagster_project.resources import Platform, logs_to
from events.clock import WallClock, utc
from features.redis import RedisStore
from features.table_upkeep import expire, vacuum
from release.forget import forget, pending, places_under

SETTLE_S = 3.0  # beyond a commit interval: what was read before a tombstone is stored by then


@dg.asset(group_name="upkeep", kinds={"deltalake", "redis", "kafka"})
def erased_people(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult[None]:
    """Everybody whose profile_erased event was stored: out of the tables, the online store, dead letters and spools."""
    settings, done = platform.settings, 0
    store = RedisStore(settings.redis)
    places = places_under(settings.var, lake=settings.lake, store=store, kafka=settings.kafka)
    settle_s = settings.commit_every_s + SETTLE_S
    asked = pending(settings.lake)
    for user_id in asked:
        done += forget(user_id, places, clock=WallClock(), settle_s=settle_s, report=logs_to(context)).complete
    store.close()
    if done < len(asked):
        raise dg.Failure(
            f"{len(asked) - done} of {len(asked)} erasures met files that were being written; run it again"
        )
    return dg.MaterializeResult(metadata={"people": done})


@dg.asset(group_name="upkeep", kinds={"deltalake"}, deps=[erased_people])
def tidy_tables(platform: Platform) -> dg.MaterializeResult[None]:
    """The offline tables without days beyond the retention and without files that no kept version needs."""
    settings = platform.settings
    today = utc(WallClock().now()).date()
    dropped = expire(settings.lake, keep_days=settings.retention_days, today=today)
    deleted = vacuum(settings.lake, keep_hours=settings.vacuum_hours)
    return dg.MaterializeResult(
        metadata={"rows_dropped": sum(dropped.values()), "files_deleted": sum(deleted.values())}
    )
