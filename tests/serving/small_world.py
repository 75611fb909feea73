"""A small platform made by hand: its events, its online store, a release folder, and a proxy over them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from events import schema as s
from events.clock import SetClock, utc
from events.log import EventWriter, MemoryLog, MemoryWriter
from features.definitions import LEASE_S, Entity
from features.encoder import Encoder
from features.snapshot import read_known, snapshot
from features.state import touched
from features.store import MemoryStore
from registry.manifest import DEFAULT_FORMULA, ENCODER, INDEX, Manifest, point_live, write_manifest
from serving.attempt import DEFAULT, FeedConfig
from serving.feed import Feed, FeedRequest
from serving.models import MemoryModels
from serving.pipeline import recommend
from serving.wiring import Proxy, assemble

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
CATEGORIES = ("music", "sport", "talk")
OBJECTIVES = ("click", "completion", "like")


class Names:
    """Event ids that never repeat."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self) -> str:
        self._next += 1
        return f"e{self._next}"


@dataclass
class SmallWorld:
    """Thirty media items m0..m29 by creators c0..c9, three live rooms r0..r2 of hosts h0..h2."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    log: MemoryLog = field(default_factory=MemoryLog)
    models: MemoryModels = field(default_factory=MemoryModels)
    clock: SetClock = field(default_factory=lambda: SetClock(NOW))
    name: Names = field(default_factory=Names)
    media: int = 30
    rooms: int = 3

    def fill(self) -> "SmallWorld":
        """Publish the media and open the rooms."""
        for n in range(self.media):
            kind = "AUDIO" if n % 5 == 0 else "VIDEO"
            self.publish(f"m{n}", creator=f"c{n % 10}", category=CATEGORIES[n % 3], kind=kind, at=NOW - n)
        for n in range(self.rooms):
            self.open_room(f"r{n}", host=f"h{n}", category=CATEGORIES[n % 3])
        self.store.set_trending("home:ALL", {f"m{n}": float(100 - n) for n in range(10)})
        return self

    def tell(self, event: s.Event) -> None:
        """Apply an event to the online store and announce it, as the collector would."""
        self.store.apply(event, event.event_at.timestamp())
        ids = {entity: [one for kind, one in touched(event) if kind is entity] for entity in Entity}
        self.store.announce(items=ids[Entity.ITEM], creators=ids[Entity.CREATOR])

    def publish(
        self, item_id: str, *, creator: str, category: str = "music", kind: Any = "VIDEO", at: float = NOW
    ) -> None:
        """A media item appears."""
        self.tell(
            s.MediaPublished(
                event_id=self.name(), event_at=utc(at), item_id=item_id, creator_id=creator, content_type=kind,
                category=category, title=f"title of {item_id}", tags=(category,), language="en", duration_s=60.0,
            )
        )  # fmt: skip

    def open_room(self, room_id: str, *, host: str, category: str = "music", at: float = NOW) -> None:
        """A host goes live."""
        self.tell(
            s.RoomOpened(
                event_id=self.name(),
                event_at=utc(at),
                streamer_id=host,
                room_id=room_id,
                category=category,
                tags=(category,),
            )
        )
        self.store.set_room(room_id, lease_until=at + LEASE_S)

    def plays(self, user_id: str, item_id: str, *, at: float = NOW - 60) -> None:
        """A viewer plays an item to its end."""
        self.tell(s.MediaStarted(event_id=self.name(), event_at=utc(at), user_id=user_id, item_id=item_id))
        self.tell(s.MediaCompleted(event_id=self.name(), event_at=utc(at), user_id=user_id, item_id=item_id))

    def encoder(self) -> Encoder:
        """Fitted on every item as one viewer would see it."""
        ids = self.store.ids(Entity.ITEM)
        known = read_known(self.store, "u-fit", ids, now=NOW)
        rows = [snapshot("u-fit", one, k, now=NOW, surface=s.Surface.HOME) for one, k in zip(ids, known, strict=True)]
        return Encoder.fit([*rows, *rows])

    def release(self, version: int = 1, *, items: Sequence[str] | None = None, live: bool = True) -> Path:
        """A release folder whose index holds `items` (default: all media), pointed at unless told otherwise."""
        encoder = self.encoder()
        ids = list(items if items is not None else (f"m{n}" for n in range(self.media)))
        folder = self.folder / "releases" / f"demo-{version}"
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save(folder / ENCODER)
        np.savez(folder / INDEX, item_ids=np.array(ids), embeddings=self.embeddings(encoder, ids))
        write_manifest(folder, manifest(version))
        if live:
            point_live(self.folder / "releases", {"stable": folder.name})
        return folder

    def embeddings(self, encoder: Encoder, ids: Sequence[str]) -> npt.NDArray[np.float32]:
        """What the memory model's item tower says of them."""
        known = read_known(self.store, "", ids, now=NOW)
        rows = [snapshot("", one, k, now=NOW, surface=s.Surface.HOME) for one, k in zip(ids, known, strict=True)]
        return self.models._unit(encoder.encode(rows)["category"])

    def proxy(
        self, *, writer: EventWriter | None = None, config: FeedConfig = DEFAULT, follows_requests: bool = True
    ) -> Proxy:
        """A proxy that has looked once; no threads run."""
        sink = writer or MemoryWriter(self.log)
        proxy = assemble(
            self.store, lambda: sink, self.models, releases=self.folder / "releases",
            spool=self.folder / "spool" / "impressions.jsonl", config=config, wall=self.clock,
            follows_requests=follows_requests,
        )  # fmt: skip
        proxy.parts.background.tick()
        return proxy


def manifest(version: int = 1) -> Manifest:
    """A manifest with the memory model's objectives."""
    return Manifest(
        line="demo", version=version, created_at="2027-01-15T08:00:00+00:00", objectives=OBJECTIVES, formula=DEFAULT_FORMULA,
        tables={"impressions": 3}, metrics={"recall_at_100": 0.5}, dials={"two_tower": {"epochs": 3}},
    )  # fmt: skip


def ask(proxy: Proxy, user_id: str = "u1", **more: Any) -> Feed:
    """One request."""
    request = FeedRequest(**({"request_id": "q1", "user_id": user_id, "now": NOW} | more))
    return recommend(request, proxy.parts)
