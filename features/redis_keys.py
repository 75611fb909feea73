"""How the online store lies in Redis: key and field names, and the bytes of a record.

`f:<entity>:<id>` is a hash with a field a source partition; the pairs of one viewer share the hash `f:pair:<viewer>`, where a
field also names the creator: she is read in one go, and a pair costs a quarter of a key of its own. `<viewer>` is what her
pairs' ids begin with (`features.state.viewer_part`): her id, less any `|` in it. A record is its offset plus one in eight
bytes, big end first, so that Lua compares offsets without unpacking; then its state in msgpack, state names as 16-bit codes,
by LZ4 where it is long (half the bytes for 3 us to write and 1 us to read).

What belongs to no one entity is spread over BUCKETS hash tags, chosen so that their slots lie evenly: every primary of a
cluster that holds an even share of the slots holds some of them.
"""

import zlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa
from redis.crc import key_slot

from events.log import Place
from events.topics import ENGAGEMENT, IMPRESSIONS, LIFECYCLE, MEDIA, PROFILES
from features.definitions import FEATURES, Entity
from features.state import EntityState
from features.store import OnlineRecord, RecordKey

BUCKETS, SLOTS = 64, 16_384
LONG = 256  # bytes of state from which on compression pays
SHORTENED = b"\xc1"  # the one byte with which no msgpack begins; then the length of the state in four bytes
LIVE, WATERMARK, CHANGES = "live", "watermark", "changes"
_SHORT = {ENGAGEMENT: "e", LIFECYCLE: "l", MEDIA: "m", PROFILES: "p", IMPRESSIONS: "i"}
_LONG = {short: name for name, short in _SHORT.items()}
_ENCODER = msgspec.msgpack.Encoder()
_LZ4 = pa.Codec("lz4_raw")
_DECODER = msgspec.msgpack.Decoder(dict[int | str, Any])


def _tags() -> tuple[str, ...]:
    """One tag for each 1/BUCKETS of the slots, in their order."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < BUCKETS:
        found.setdefault(key_slot(str(number).encode()) * BUCKETS // SLOTS, str(number))
        number += 1
    return tuple(found[bucket] for bucket in range(BUCKETS))


TAGS = _tags()
MARKS = tuple(f"progress:{{{tag}}}" for tag in TAGS)  # hashes: field of a place -> next offset
ITEM_IDS = tuple(f"ids:item:{{{tag}}}" for tag in TAGS)  # sets


def bucket_of(item_id: str) -> int:
    """Which bucket lists an item and holds its vector."""
    return zlib.crc32(item_id.encode()) % BUCKETS


def vector_keys(item_ids: Iterable[str], *, tagged: bool) -> list[str]:
    """The keys of items' packed numbers; on a cluster with the tag of their bucket, so that one command reads many."""
    if not tagged:
        return [f"v:{one}" for one in item_ids]
    return [f"v:{{{TAGS[bucket_of(one)]}}}:{one}" for one in item_ids]


def hash_key(entity: Entity, entity_id: str) -> str:
    """The key of the hash in which an entity's records lie."""
    head = entity_id.partition("|")[0] if entity is Entity.PAIR else entity_id
    return f"f:{entity}:{head}"


def place_field(place: Place) -> str:
    """A source partition in as few characters as its topic allows."""
    return f"{_SHORT.get(place.topic, place.topic)}/{place.partition}"


def field_of(key: RecordKey) -> str:
    """The field of a record in its hash."""
    lane = place_field(key.place)
    return f"{lane}|{key.entity_id.partition('|')[2]}" if key.entity is Entity.PAIR else lane


def place_of(field: bytes) -> Place:
    """The source partition that a field names."""
    return _place_of(field.partition(b"|")[0])


@lru_cache(1024)  # there are as many as the log has partitions
def _place_of(lane: bytes) -> Place:
    topic, _, partition = lane.decode().rpartition("/")
    return Place(_LONG.get(topic, topic), int(partition))


def tail_of(field: bytes) -> str:
    """What a field of a pair says after its source partition: the creator."""
    return field.partition(b"|")[2].decode()


def _code(name: str) -> int:
    return zlib.crc32(name.encode()) & 0xFFFF


_CODES: dict[str, int] = {feature.state: _code(feature.state) for feature in FEATURES}
_NAMES: dict[int | str, str] = {code: name for name, code in _CODES.items()}


def pack(record: OnlineRecord) -> bytes:
    """A record's bytes; `keep_s` is not among them."""
    state = _ENCODER.encode(
        {_CODES[name] if name in _CODES else _foreign(name): held for name, held in record.state.items()}
    )
    offset = (record.offset + 1).to_bytes(8, "big")
    if len(state) < LONG:
        return offset + state
    return b"".join((offset, SHORTENED, len(state).to_bytes(4, "big"), _LZ4.compress(state, asbytes=True)))


def unpack(blob: bytes) -> OnlineRecord:
    """The record of those bytes."""
    return OnlineRecord(int.from_bytes(blob[:8], "big") - 1, state_in(blob))


def state_in(blob: bytes) -> EntityState:
    """The state of a record's bytes."""
    state = blob[8:]
    if state.startswith(SHORTENED):
        state = _LZ4.decompress(state[5:], int.from_bytes(state[1:5], "big"), asbytes=True)
    return {_NAMES[code] if code in _NAMES else _unknown(code): held for code, held in _DECODER.decode(state).items()}


def _unknown(code: int | str) -> str:
    """The name of a state that these definitions do not have: as it was written, or its code after a `#`."""
    return f"#{code}" if isinstance(code, int) else code


def _foreign(name: str) -> int | str:
    return int(name[1:]) if name.startswith("#") else name
