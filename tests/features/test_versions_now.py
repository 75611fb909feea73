"""What trains a release is read at one version each, whatever is written meanwhile."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from events import schema as s
from features.definitions import Entity
from features.history import store_as_of
from features.offline_tables import versions_now
from features.tables import DeltaTables
from tests.features.conftest import Store

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)


def published(number: int) -> s.MediaPublished:
    return s.MediaPublished(
        event_id=f"m{number}", event_at=NOON + timedelta(minutes=number), item_id=f"film{number}", creator_id="anna",
        content_type="VIDEO", category="music",
    )  # fmt: skip


def test_versions_are_those_of_the_tables_that_there_are(lake: Path, store_events: Store) -> None:
    store_events([published(0)])
    store_events([published(1)])
    assert versions_now(lake, tables=("samples", "media", "engagement")) == {"media": 2}
    assert versions_now(lake) == {"media": 2}
    assert versions_now(lake / "nowhere") == {}


def test_the_catalogue_read_at_pinned_versions_does_not_know_what_came_after(lake: Path, store_events: Store) -> None:
    store_events([published(0)])
    pinned = versions_now(lake)
    store_events([published(1)])
    assert store_as_of(lake, versions=pinned).ids(Entity.ITEM) == ["film0"]
    assert store_as_of(lake).ids(Entity.ITEM) == ["film0", "film1"]
    assert DeltaTables(lake).version("media") == 2
