"""The online store on Redis, one server or a cluster (`redis+cluster://host:port`, or found to be one).

`features/redis_keys.py` says how it lies there and ADR 5 why it is exact: records carry their offset, and every primary of a
cluster keeps marks of how far it was written, in the same append-only file as its records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from events.log import Place
from features import redis_keys as k
from features.definitions import Entity
from features.errors import StoreSetBack, StoreUnavailable
from features.redis_scripts import ADVANCE, ALL, ANNOUNCE, REPLACE, SAVE
from features.redis_wire import Command, Wire, chunks
from features.state import EntityState, merge, pair_id
from features.store import ANNOUNCEMENTS, FORGOTTEN_ROOM_S, Changed, OfViewer, OnlineRecord, RecordKey

SAVED_AT_ONCE = 100  # records a script call: a reader waits a millisecond for it
PACKED_AT_ONCE = 5_000  # records packed before they are sent: bounds memory in a rebuild
MOST_PAIRS = 2_048  # creators remembered a viewer; beyond that those longest not written go
SWEEP_EVERY_S = 60.0  # event-time seconds between looks for items whose records have expired
SWEPT_AT_ONCE = 1_000
_LAST = ("XREVRANGE", k.CHANGES, "+", "-", "COUNT", 1)  # announcement
_CHANGED = msgspec.msgpack.Decoder(tuple[list[str], list[str]])
_OF_VIEWER = msgspec.msgpack.Decoder(tuple[list[bytes], list[bytes]])


class RedisStore:
    """OnlineStore over Redis; every failure to answer within `timeout_s` is a StoreUnavailable.

    The limit holds for each wait; with `altogether` for a whole round trip, so that answers that come in drops are late too.
    """

    def __init__(self, url: str, *, timeout_s: float = 2.0, altogether: bool = False) -> None:
        self._wire = Wire(url, timeout_s=timeout_s, scripts=ALL, altogether=altogether)
        self._left: dict[str, dict[Place, int]] = {}  # mark -> what it said when last read or written
        self._live: tuple[list[bytes], list[str]] = [], []  # what was last answered of live rooms, and their ids sorted
        self._trends: dict[tuple[str, int], tuple[list[bytes], list[tuple[str, float]]]] = {}  # the same, by list
        self._read: frozenset[str] = frozenset()  # the marks that were read whole
        self._sweep = _Sweep(self._wire)

    # --- what the collector writes ---

    def load(self, keys: Sequence[RecordKey]) -> list[OnlineRecord | None]:
        """The records of those keys, None where there is none."""
        names = ((k.hash_key(key.entity, key.entity_id), k.field_of(key)) for key in keys)
        found = self._wire.ask(Command(name, ("HGET", name, field)) for name, field in names)
        return [None if blob is None else k.unpack(blob) for blob in found]

    def save(self, records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        """Write records whole but for those of which it holds a later one."""
        return [key for some in chunks(list(records), PACKED_AT_ONCE) for key in self._save(some, records)]

    def _save(self, keys: Sequence[RecordKey], records: Mapping[RecordKey, OnlineRecord]) -> list[RecordKey]:
        self._list(key.entity_id for key in keys if key.entity is Entity.ITEM)
        by_hash: dict[str, list[RecordKey]] = {}
        for key in keys:
            by_hash.setdefault(k.hash_key(key.entity, key.entity_id), []).append(key)
        calls = [
            [(name, key) for name in names for key in by_hash[name]]
            for names in self._wire.grouped(by_hash, SAVED_AT_ONCE)
        ]
        answers = self._wire.ask(
            SAVE.on([name for name, _ in call], *(word for _, key in call for word in _words(key, records[key])))
            for call in calls
        )
        return [call[number][1] for call, refused in zip(calls, answers, strict=True) for number in refused]

    def progress(self) -> dict[Place, int]:
        """Next offset to apply by place: the smallest over all marks, 0 where a mark does not know the place."""
        marks = self._marks()
        for mark, flat in zip(marks, self._wire.ask(Command(one, ("HGETALL", one)) for one in marks), strict=True):
            fields = zip(flat[::2], flat[1::2], strict=True)
            self._left[mark] = {k.place_of(field): int(offset) for field, offset in fields}
        self._read = frozenset(marks)
        places = {place for mark in marks for place in self._left[mark]}
        return {place: min(self._left[mark].get(place, 0) for mark in marks) for place in places}

    def advance(self, progress: Mapping[Place, int]) -> None:
        """Set the next offsets on every mark; StoreSetBack when one is not as this store last read or wrote it."""
        if not progress:
            return
        marks = self._marks()
        answers = self._wire.ask(
            ADVANCE.on([mark], *(word for row in progress.items() for word in self._move(mark, *row))) for mark in marks
        )
        moved = frozenset(k.place_of(field) for fields in answers for field in fields)
        for mark in marks:
            self._left.setdefault(mark, {}).update(
                {place: offset for place, offset in progress.items() if place not in moved}
            )
        if moved:
            raise StoreSetBack(moved)

    def announce(self, *, items: Sequence[str] = (), creators: Sequence[str] = ()) -> None:
        """Tell readers that these changed."""
        if items or creators:
            # Listed again: the shard that lists an item may have lost what the shard of its record did not.
            self._list(items)
            what = msgspec.msgpack.encode((list(items), list(creators)))
            self._wire.ask([ANNOUNCE.on([k.CHANGES], ANNOUNCEMENTS, what)])

    def erase_user(self, user_id: str) -> int:
        """Remove a person's records, and her pairs from either side; reads the names of all pairs there are."""
        names = [k.hash_key(entity, user_id) for entity in (Entity.USER, Entity.CREATOR)]
        sizes = self._wire.ask(Command(one, ("HLEN", one)) for one in names)
        gone = [(name, field) for name, field in self._pairs() if _is_of(name, field, user_id)]
        self._wire.ask(Command(name, ("HDEL", name, field)) for name, field in gone)
        self._wire.ask(Command(one, ("UNLINK", one)) for one in names)
        return sum(sizes) + len(gone)

    def clear(self) -> None:
        """Empty the database, of every server: whatever lies there."""
        self._wire.each_server(lambda server: server.flushdb(asynchronous=True))
        self._left.clear()
        self._read = frozenset()

    # --- what readers ask for ---

    def read(self, entity: Entity, ids: Sequence[str]) -> list[EntityState]:
        """Merged states in the order of `ids`, empty where nothing is known."""
        names = list(dict.fromkeys(k.hash_key(entity, one) for one in ids))
        found = self._wire.ask(Command(one, ("HGETALL", one)) for one in names)
        lanes: dict[str, list[tuple[Place, bytes]]] = {}
        for name, flat in zip(names, found, strict=True):
            for field, blob in zip(flat[::2], flat[1::2], strict=True):
                one = f"{name}|{k.tail_of(field)}" if entity is Entity.PAIR else name
                lanes.setdefault(one, []).append((k.place_of(field), blob))
        at = (f"{k.hash_key(entity, one)}|{one.partition('|')[2]}" if entity is Entity.PAIR else
              k.hash_key(entity, one) for one in ids)  # fmt: skip
        return [merge(entity, (k.state_in(blob) for _, blob in sorted(lanes.get(one, ())))) for one in at]

    def of_viewer(self, user_id: str) -> OfViewer:
        """A viewer's state and those of her pairs, in one round trip."""
        name, pairs = k.hash_key(Entity.USER, user_id), k.hash_key(Entity.PAIR, pair_id(user_id, ""))
        answers = self._wire.ask([Command(name, ("HGETALL", name)), Command(pairs, ("HGETALL", pairs))])
        return _of_viewer(*answers, packed=msgspec.msgpack.encode(answers))

    def viewer_in(self, packed: bytes) -> OfViewer:
        """What `of_viewer` gave with those bytes, which are the server's answers."""
        return _of_viewer(*_OF_VIEWER.decode(packed), packed=packed)

    def ids(self, entity: Entity) -> list[str]:
        """Every id of an entity that has a record, sorted; items from their lists, others by a scan of all keys."""
        if entity is Entity.ITEM:
            found = self._wire.ask(Command(one, ("SMEMBERS", one)) for one in k.ITEM_IDS)
            return sorted(one.decode() for members in found for one in members)
        start = len(k.hash_key(entity, ""))
        if entity is Entity.PAIR:
            return sorted({f"{name[start:]}|{k.tail_of(field)}" for name, field in self._pairs()})
        return sorted(name[start:] for name in self._hashes(entity))

    def cursor(self) -> str:
        """The last announcement."""
        return _cursor_of(self._wire.one(k.CHANGES, *_LAST))

    def changed(self, since: str) -> Changed | None:
        """What was announced after `since`; None when that is gone, or the announcements were set back."""
        # The last is asked for first: what is announced between the two is then found by the second.
        last, found = self._wire.ask(
            [Command(k.CHANGES, _LAST), Command(k.CHANGES, ("XRANGE", k.CHANGES, f"({since}", "+"))]
        )
        if not found:
            return Changed(since, frozenset(), frozenset()) if _cursor_of(last) == since else None
        entries = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]
        if entries[0][b"before"].decode() != since:
            return None
        what = [_CHANGED.decode(entry[b"changed"]) for entry in entries]
        items, creators = (frozenset(one for row in what for one in row[n]) for n in (0, 1))
        return Changed(found[-1][0].decode(), items, creators)

    def set_vectors(self, vectors: Mapping[str, bytes]) -> None:
        """Keep packed numbers by item id."""
        by_key = dict(zip(self._vector_keys(vectors), vectors.values(), strict=True))
        self._wire.ask(
            Command(names[0], ("MSET", *(word for name in names for word in (name, by_key[name]))))
            for names in self._wire.grouped(by_key, SWEPT_AT_ONCE)
        )

    def vectors(self, item_ids: Sequence[str]) -> list[bytes | None]:
        """Packed numbers in the order of `item_ids`."""
        keys = self._vector_keys(item_ids)
        groups = list(self._wire.grouped(keys, SWEPT_AT_ONCE))
        return _in_order(keys, groups, self._wire.ask(map(_mget, groups)))

    def _vector_keys(self, item_ids: Iterable[str]) -> list[str]:
        return k.vector_keys(item_ids, tagged=self._wire.is_cluster)

    def of_request(self, user_id: str, item_ids: Sequence[str]) -> tuple[EntityState, list[bytes | None]]:
        """A viewer's state and the packed numbers of the candidates, in one round trip."""
        name = k.hash_key(Entity.USER, user_id)
        keys = self._vector_keys(item_ids)
        groups = list(self._wire.grouped(keys, SWEPT_AT_ONCE))
        flat, *answers = self._wire.ask([Command(name, ("HGETALL", name)), *map(_mget, groups)])
        return _state_of_viewer(flat), _in_order(keys, groups, answers)

    # --- listings ---

    def set_room(self, room_id: str, *, lease_until: float) -> None:
        """The room is live until `lease_until`."""
        self._wire.one(k.LIVE, "ZADD", k.LIVE, lease_until, room_id)

    def live_rooms(self, now: float) -> list[str]:
        """Rooms whose lease holds as of `now`, sorted."""
        found = self._wire.one(k.LIVE, "ZRANGEBYSCORE", k.LIVE, f"({now!r}", "+inf")
        before, rooms = self._live
        if (
            found != before
        ):  # asked five times a second, and mostly as it was: to decode and sort 5,000 takes a millisecond
            rooms = sorted(one.decode() for one in found)
            self._live = found, rooms
        return rooms.copy()

    def leases(self, room_ids: Sequence[str]) -> list[float | None]:
        """Until when each room is live; None for one that is not listed."""
        if not room_ids:
            return []
        return [None if one is None else float(one) for one in self._wire.one(k.LIVE, "ZMSCORE", k.LIVE, *room_ids)]

    def set_trending(self, name: str, scores: Mapping[str, float]) -> None:
        """Replace a trending list; readers see the old one or the new one."""
        # Negated, so that Redis's ascending order gives best first and ties by id.
        rows = (word for item, score in scores.items() for word in (-score, item))
        self._wire.ask([REPLACE.on([f"trending:{name}"], *rows)])

    def trending(self, name: str, limit: int) -> list[tuple[str, float]]:
        """Item ids and scores, best first, ties by id."""
        if limit <= 0:
            return []
        key = f"trending:{name}"
        flat = self._wire.one(key, "ZRANGE", key, 0, limit - 1, "WITHSCORES")
        before, pairs = self._trends.get((name, limit), ([], []))
        if flat != before:  # asked once a second, and mostly as it was
            pairs = [(item.decode(), -float(score)) for item, score in zip(flat[::2], flat[1::2], strict=True)]
            self._trends[name, limit] = flat, pairs
        return pairs.copy()

    def watermark(self) -> float | None:
        """Largest event time applied."""
        mark = self._wire.one(k.WATERMARK, "ZSCORE", k.WATERMARK, "event")
        return None if mark is None else float(mark)

    def set_watermark(self, at: float) -> None:
        """Raise the watermark; rooms that ended long before it and items whose records expired are forgotten."""
        ended = f"({at - FORGOTTEN_ROOM_S!r}"
        _, rooms = self._wire.ask(
            [
                Command(k.WATERMARK, ("ZADD", k.WATERMARK, "GT", at, "event")),
                Command(k.LIVE, ("ZRANGEBYSCORE", k.LIVE, "-inf", ended)),
            ]
        )
        if rooms:
            self._sweep.forget(room.decode() for room in rooms)
            self._wire.one(k.LIVE, "ZREMRANGEBYSCORE", k.LIVE, "-inf", ended)
        self._sweep.step(at)

    def close(self) -> None:
        """Let the connections go."""
        self._wire.close()

    # --- parts of the above ---

    def _list(self, item_ids: Iterable[str]) -> None:
        """Put items on the lists of all items."""
        by_list: dict[str, set[str]] = {}
        for one in item_ids:
            by_list.setdefault(k.ITEM_IDS[k.bucket_of(one)], set()).add(one)
        self._wire.ask(Command(name, ("SADD", name, *members)) for name, members in by_list.items())

    def _marks(self) -> Sequence[str]:
        """The marks there are: one on a single server, else all; StoreUnavailable when a primary holds none."""
        if not self._wire.is_cluster:
            return k.MARKS[:1]
        bare = self._wire.servers() - {self._wire.name_of(mark) for mark in k.MARKS}
        if bare:
            raise StoreUnavailable(
                f"the primary {min(bare)} holds none of the {k.BUCKETS} slots in which the online store keeps its "
                f"progress; give each primary at least {k.SLOTS // k.BUCKETS * 2} slots in a row"
            )
        return k.MARKS

    def _move(self, mark: str, place: Place, offset: int) -> tuple[str, int, str]:
        left = self._left.get(mark, {}).get(place)
        unknown = "" if mark in self._read else "?"
        return k.place_field(place), offset, unknown if left is None else str(left)

    def _hashes(self, entity: Entity) -> set[str]:
        """The keys of all hashes of an entity."""
        pattern = f"{k.hash_key(entity, '')}*"
        found = self._wire.each_server(lambda server: list(server.scan_iter(match=pattern, count=1000)))
        return {name.decode() for names in found.values() for name in names}

    def _pairs(self) -> Iterable[tuple[str, bytes]]:
        """Key and field of every pair's record."""
        for names in chunks(sorted(self._hashes(Entity.PAIR)), SWEPT_AT_ONCE):
            fields = self._wire.ask(Command(name, ("HKEYS", name)) for name in names)
            yield from ((name, field) for name, found in zip(names, fields, strict=True) for field in found)


def _words(key: RecordKey, record: OnlineRecord) -> tuple[str, bytes, int, int]:
    """A record as SAVE takes it."""
    keep = int(record.keep_s) if record.keep_s is not None else 0
    return k.field_of(key), k.pack(record), keep, MOST_PAIRS if key.entity is Entity.PAIR else 0


def _is_of(name: str, field: bytes, user_id: str) -> bool:
    """Whether a pair is of this viewer or of this creator."""
    return name == k.hash_key(Entity.PAIR, pair_id(user_id, "")) or k.tail_of(field) == user_id


def _cursor_of(last: Sequence[Sequence[bytes]]) -> str:
    return last[0][0].decode() if last else "0-0"


def _mget(names: Sequence[str]) -> Command:
    return Command(names[0], ("MGET", *names))


def _in_order(
    keys: Sequence[str], groups: Sequence[Sequence[str]], answers: Sequence[Sequence[bytes | None]]
) -> list[bytes | None]:
    """Vectors in the order of the keys from answers in the order of the groups."""
    if len(groups) == 1:
        return list(answers[0])
    told = zip((name for names in groups for name in names), (b for row in answers for b in row), strict=True)
    found = dict(told)
    return [found[key] for key in keys]


def _state_of_viewer(flat: Sequence[bytes]) -> EntityState:
    """The merged state in the answer to HGETALL."""
    lanes = sorted((k.place_of(field), blob) for field, blob in zip(flat[::2], flat[1::2], strict=True))
    return merge(Entity.USER, (k.state_in(blob) for _, blob in lanes))


def _of_viewer(flat: Sequence[bytes], pairs: Sequence[bytes], *, packed: bytes) -> OfViewer:
    return OfViewer(_state_of_viewer(flat), _Pairs(zip(pairs[::2], pairs[1::2], strict=True)), packed)


class _Pairs(Mapping[str, EntityState]):
    """States of one viewer's pairs by creator; a viewer has up to thousands, a request asks for a few of them."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._lanes: dict[str, list[tuple[bytes, bytes]]] = {}
        for field, blob in fields:
            self._lanes.setdefault(k.tail_of(field), []).append((field, blob))

    def __getitem__(self, creator: str) -> EntityState:
        lanes = self._lanes[creator]
        if len(lanes) > 1:
            lanes = sorted(lanes, key=lambda lane: k.place_of(lane[0]))
        return merge(Entity.PAIR, (k.state_in(blob) for _, blob in lanes))

    def __iter__(self) -> Iterator[str]:
        return iter(self._lanes)

    def __len__(self) -> int:
        return len(self._lanes)


class _Sweep:
    """Takes ids off the lists of items whose records are gone, a little at a time; each is looked at twice.

    The second look is for an item that is being saved: it is listed first and gets its record then.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._bucket, self._cursor = 0, b"0"
        self._at = float("-inf")
        self._absent: list[str] = []

    def step(self, at: float) -> None:
        """One look, if `at` (event time) is long enough after the last."""
        if at < self._at + SWEEP_EVERY_S:
            return
        self._at = at
        self.forget(self._without_record(self._absent))
        name = k.ITEM_IDS[self._bucket]
        self._cursor, found = self._wire.one(name, "SSCAN", name, self._cursor, "COUNT", SWEPT_AT_ONCE)
        if self._cursor == b"0":
            self._bucket = (self._bucket + 1) % k.BUCKETS
        self._absent = self._without_record([one.decode() for one in found])

    def forget(self, item_ids: Iterable[str]) -> None:
        """Take items off the lists, and their vectors away."""
        gone = list(item_ids)
        lists = ((k.ITEM_IDS[k.bucket_of(one)], one) for one in gone)
        self._wire.ask(Command(name, ("SREM", name, one)) for name, one in lists)
        names = k.vector_keys(gone, tagged=self._wire.is_cluster)
        self._wire.ask(Command(name, ("UNLINK", name)) for name in names)

    def _without_record(self, item_ids: Sequence[str]) -> list[str]:
        names = [k.hash_key(Entity.ITEM, one) for one in item_ids]
        held = self._wire.ask(Command(name, ("EXISTS", name)) for name in names)
        return [one for one, there in zip(item_ids, held, strict=True) if not there]
