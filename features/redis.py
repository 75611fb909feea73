"""The online store on Redis: one hash an entity, one field a source partition, so that two writers never share a value.

Keys: `f:<entity>:<id>` (hash: place -> msgpack of offset and state), `ids:item` (set), `progress` (hash), `live` (sorted set:
room -> end of lease), `trending:<name>` (sorted set), `watermark` (sorted set of one member). Every command touches one key,
so that it runs on Redis Cluster too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.log import Place
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.state import EntityState, merge
from features.store import OnlineRecord, RecordKey

PIPELINE = 1000  # commands a round trip: bounds the server's reply buffer
FORGOTTEN_ROOM_S = 86_400.0  # a room whose lease ended that long before the watermark is dropped from `live`
PROGRESS, LIVE, WATERMARK, ITEM_IDS = "progress", "live", "watermark", "ids:item"
T = TypeVar("T")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(tuple[int, dict[str, Any]])


def entity_key(entity: Entity, entity_id: str) -> str:
    """The Redis key of an entity's hash."""
    return f"f:{entity}:{entity_id}"


def _field(place: Place) -> str:
    return f"{place.topic}/{place.partition}"


def _place(text: bytes) -> Place:
    topic, _, partition = text.decode().rpartition("/")
    return Place(topic, int(partition))


def _chunks(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), PIPELINE):
        yield rows[start : start + PIPELINE]


class RedisStore:
    """OnlineStore over Redis; every failure to answer within `timeout_s` is a StoreUnavailable."""

    def __init__(self, url: str, *, timeout_s: float = 2.0) -> None:
        self._url = url
        # No retry inside the client: the caller knows how long it may wait.
        self._redis: Any = redis.Redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
        )

    def _ask(self, question: Callable[[Any], T]) -> T:
        try:
            return question(self._redis)
        except (redis.RedisError, OSError) as error:
            raise StoreUnavailable(f"the online store at {self._url} did not answer: {error}") from None

    def _pipelined(self, fill: Sequence[Callable[[Any], object]]) -> list[Any]:
        """Run many one-key commands, a round trip a thousand."""

        def run(client: Any) -> list[Any]:
            out: list[Any] = []
            for chunk in _chunks(fill):
                pipe = client.pipeline(transaction=False)
                for add in chunk:
                    add(pipe)
                out.extend(pipe.execute())
            return out

        return self._ask(run)

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys, None where there is none."""

        def run(client: Any) -> list[bytes | None]:
            out: list[bytes | None] = []
            for chunk in _chunks(keys):
                pipe = client.pipeline(transaction=False)
                for key in chunk:
                    pipe.hget(entity_key(key.entity, key.entity_id), _field(key.place))
                out.extend(pipe.execute())
            return out

        return [None if blob is None else OnlineRecord(*_DECODER.decode(blob)) for blob in self._ask(run)]

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> None:
        """Write records whole."""

        def run(client: Any) -> None:
            rows = iter(records.items())
            while chunk := list(islice(rows, PIPELINE)):
                pipe = client.pipeline(transaction=False)
                for key, record in chunk:
                    blob = _ENCODER.encode((record.offset, record.state))
                    pipe.hset(entity_key(key.entity, key.entity_id), _field(key.place), blob)
                items = {key.entity_id for key, _ in chunk if key.entity is Entity.ITEM}
                if items:
                    pipe.sadd(ITEM_IDS, *items)
                pipe.execute()

        self._ask(run)

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`, empty where nothing is known."""
        names = [entity_key(entity, one) for one in ids]
        blobs = self._pipelined([lambda pipe, name=name: pipe.hvals(name) for name in names])  # type: ignore[misc]
        return [merge(entity, (_DECODER.decode(blob)[1] for blob in lanes)) for lanes in blobs]

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place."""
        return {_place(field): int(offset) for field, offset in self._ask(lambda r: r.hgetall(PROGRESS)).items()}

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets; call after the records up to there were saved."""
        if progress:
            self._ask(lambda r: r.hset(PROGRESS, mapping={_field(place): offset for place, offset in progress.items()}))

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until `lease_until`."""
        self._ask(lambda r: r.zadd(LIVE, {room_id: lease_until}))

    def live_rooms(self, now: float) -> list[str]:
        """Rooms whose lease holds as of `now`, sorted."""
        return sorted(room.decode() for room in self._ask(lambda r: r.zrangebyscore(LIVE, f"({now!r}", "+inf")))

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list; readers see the old one or the new one."""

        def run(client: Any) -> None:
            pipe = client.pipeline(transaction=True)  # one key: legal on a cluster
            pipe.delete(f"trending:{name}")
            if scores:
                # Negated, so that Redis's ascending order gives best first and ties by id.
                pipe.zadd(f"trending:{name}", {item: -score for item, score in scores.items()})
            pipe.execute()

        self._ask(run)

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Item ids and scores, best first, ties by id."""
        if limit <= 0:
            return []
        found = self._ask(lambda r: r.zrange(f"trending:{name}", 0, limit - 1, withscores=True))
        return [(item.decode(), -score) for item, score in found]

    def ids(self, entity: Entity) -> list[str]:
        """Every id of an entity that has a record, sorted; items from their set, other entities by a scan of all keys."""
        if entity is Entity.ITEM:
            return sorted(one.decode() for one in self._ask(lambda r: r.smembers(ITEM_IDS)))
        prefix = entity_key(entity, "")
        keys = self._ask(lambda r: list(r.scan_iter(match=f"{prefix}*", count=1000)))
        return sorted({key.decode()[len(prefix) :] for key in keys})

    def watermark(self) -> float | None:
        """Largest event time applied."""
        mark = self._ask(lambda r: r.zscore(WATERMARK, "event"))
        return None if mark is None else float(mark)

    def set_watermark(self, at: float) -> None:
        """Raise the watermark, and forget rooms that ended long before it."""
        self._pipelined(
            [
                lambda pipe: pipe.zadd(WATERMARK, {"event": at}, gt=True),
                lambda pipe: pipe.zremrangebyscore(LIVE, "-inf", f"({at - FORGOTTEN_ROOM_S!r}"),
            ]
        )

    def close(self) -> None:
        """Let the connections go."""
        self._redis.close()
