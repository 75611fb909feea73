"""Evenings on a platform, written into offline tables: who was shown what in which arm, and what they did with it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from events import schema as s
from events.clock import utc
from events.log import Record
from events.tables import to_row
from events.topics import topic_of
from features.tables import DeltaTables

START = 1_793_556_000.0  # 2026-11-01 18:00 UTC


class Evening:
    """Writes events at seconds after START."""

    def __init__(self, lake: Path) -> None:
        self.lake = lake
        self._tables, self._offset = DeltaTables(lake), 0

    def store(self, events: Iterable[s.Event]) -> None:
        """Append them, duplicates and all, as the collector would."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for event in events:
            self._offset += 1
            name = topic_of(event).name
            record = Record(name, 0, self._offset, None, b"")
            rows.setdefault(name, []).append(to_row(event, record, ingested_at=event.event_at, late=False))
        for name, found in rows.items():
            self._tables.progress(name, partitions=[0])
            self._tables.append(name, found, offsets={0: self._offset + 1})


def shown(user: str, request: str, item: str, at: float, *, arm: str = "stable", position: int = 0, **also: Any) -> Any:
    """An impression."""
    fields = {"release": "old-1", "creator_id": "c", "content_type": s.ContentType.VIDEO} | also
    return s.Impression(
        event_id=f"{request}:{position}", event_at=utc(START + at), request_id=request, user_id=user, item_id=item,
        position=position, arm=arm, **fields,
    )  # fmt: skip


def clicked(user: str, request: str, item: str, at: float, *, event: str = "") -> s.FeedClicked:
    """A click."""
    return s.FeedClicked(
        event_id=event or f"click-{user}-{request}-{item}-{at}", event_at=utc(START + at), user_id=user, item_id=item,
        request_id=request, position=0,
    )  # fmt: skip


def started(user: str, item: str, at: float) -> s.MediaStarted:
    """Playback begins."""
    return s.MediaStarted(event_id=f"start-{user}-{item}-{at}", event_at=utc(START + at), user_id=user, item_id=item)


def completed(user: str, item: str, at: float) -> s.MediaCompleted:
    """Playback ends."""
    return s.MediaCompleted(event_id=f"end-{user}-{item}-{at}", event_at=utc(START + at), user_id=user, item_id=item)


def entered(user: str, room: str, at: float) -> s.RoomEntered:
    """A room is entered."""
    return s.RoomEntered(
        event_id=f"in-{user}-{room}-{at}", event_at=utc(START + at), user_id=user, room_id=room, streamer_id="h"
    )


def left(user: str, room: str, at: float, *, watched: float) -> s.RoomLeft:
    """A room is left."""
    return s.RoomLeft(
        event_id=f"out-{user}-{room}-{at}", event_at=utc(START + at), user_id=user, room_id=room, streamer_id="h",
        watched_s=watched,
    )  # fmt: skip


def profile(user: str, at: float, **said: Any) -> s.ViewerProfile:
    """What a viewer says of herself."""
    return s.ViewerProfile(event_id=f"profile-{user}-{at}", event_at=utc(START + at), user_id=user, **said)
