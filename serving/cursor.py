"""Cursors: which place of which session's feed comes next, signed so that nobody else can say so. Opaque to clients."""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import struct
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from events.schema import ContentType, Surface
from serving.errors import BadRequest
from serving.feed import FeedRequest, Session

VERSION = 1
PLACES = 200  # of one session's feed, over all its pages
TTL_S = 1800.0  # seconds after its page for which a cursor is taken
KEY_BYTES = 32
_MAC_BYTES, _HASH_BYTES = 32, 6
_HEAD = struct.Struct(">B16s8sBB8s8sdHHd8s")
# 200 hashes of eight bytes would not fit two kilobytes of base64; with six, one in 10^9 items is left out for another.
LONGEST = -(-(_HEAD.size + PLACES * _HASH_BYTES + _MAC_BYTES) * 4 // 3)
_ALLOWED = (
    f"allowed is the next_cursor of this feed's last page, at most {TTL_S:g} s old; without one a new feed begins"
)
_SURFACES, _TYPES = tuple(Surface), (None, *ContentType)


class Cursor(Struct, frozen=True, kw_only=True):
    """What a cursor says: the request it continues, where, until when (epoch seconds), and hashes of what was shown."""

    session_id: str  # 32 hexadecimal digits
    viewer: bytes
    surface: Surface
    content_type: ContentType | None
    context: bytes
    locale: bytes
    diversity: float
    offset: int
    expires_at: float
    release: bytes
    shown: tuple[int, ...]

    def session(self) -> Session:
        """Where the feed goes on."""
        return Session(
            session_id=self.session_id, offset=self.offset, shown=len(self.shown), release=self.release.hex()
        )


def short_hash(text: str) -> int:
    """48 bits of an item's id, the same in every process."""
    return int.from_bytes(_digest(text, _HASH_BYTES), "big")


def release_hash(name: str) -> str:
    """A release as `Session.release` names it."""
    return _digest(name, 8).hex()


def new_session() -> str:
    """A session's id that nobody can guess."""
    return secrets.token_hex(16)


def after(request: FeedRequest, session: Session, *, release: str, shown: Sequence[int]) -> Cursor:
    """The cursor of the page that begins at `session.offset`; `shown` holds `short_hash` of all items of the pages before."""
    return Cursor(
        session_id=session.session_id,
        viewer=_digest(request.user_id, 8),
        surface=request.surface,
        content_type=request.content_type,
        context=_optional(request.context_item_id),
        locale=_optional(request.locale),
        diversity=request.diversity,
        offset=session.offset,
        expires_at=request.now + TTL_S,
        release=_digest(release, 8),
        shown=tuple(shown),
    )


class Signer:
    """Writes cursors as text and reads them back; every proxy with the same key reads them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def write(self, cursor: Cursor) -> str:
        """At most LONGEST characters of A-Z a-z 0-9 _ and -."""
        head = _HEAD.pack(
            VERSION, bytes.fromhex(cursor.session_id), cursor.viewer, _SURFACES.index(cursor.surface),
            _TYPES.index(cursor.content_type), cursor.context, cursor.locale, cursor.diversity, cursor.offset,
            len(cursor.shown), cursor.expires_at, cursor.release,
        )  # fmt: skip
        body = head + b"".join(one.to_bytes(_HASH_BYTES, "big") for one in cursor.shown)
        return base64.urlsafe_b64encode(body + self._mac(body)).rstrip(b"=").decode()

    def read(self, text: str, *, now: float) -> Cursor:
        """The cursor; BadRequest when it is not ours, of another version, or has expired as of `now`."""
        raw = _bytes(text)
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        # One text a cursor: what base64 reads the same (its last letter's spare bits) was not written here.
        if len(body) < _HEAD.size or not hmac.compare_digest(mac, self._mac(body)) or body[0] != VERSION:
            raise BadRequest(f"cursor={text[:16] + '…'!r} is not allowed; {_ALLOWED}")
        cursor = _unpacked(body)
        if cursor.expires_at < now:
            raise BadRequest(f"cursor={text[:16] + '…'!r} has expired {now - cursor.expires_at:.0f} s ago; {_ALLOWED}")
        return cursor

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"livefeed cursor\0" + body, "sha256")


def check_same(cursor: Cursor, request: FeedRequest) -> None:
    """BadRequest naming the first parameter that is not as it was when the cursor was made."""
    pairs = {
        "user_id": (cursor.viewer, _digest(request.user_id, 8)),
        "surface": (cursor.surface, request.surface),
        "content_type": (cursor.content_type, request.content_type),
        "context_item_id": (cursor.context, _optional(request.context_item_id)),
        "diversity": (cursor.diversity, request.diversity),
        "locale": (cursor.locale, _optional(request.locale)),
    }
    for name, (was, now) in pairs.items():
        if was != now:
            value = str(getattr(request, name))[:64]
            raise BadRequest(
                f"{name}={value!r} is not allowed with this cursor; allowed is what its first page asked for"
            )


def key_of(setting: str, file: Path) -> bytes:
    """The signing key: the setting's bytes, else the file's, which the first process to come makes for all the others."""
    if setting:
        return setting.encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    mine = file.with_name(f"{file.name}.{os.getpid()}")
    mine.touch(mode=0o600)
    mine.write_bytes(secrets.token_bytes(KEY_BYTES))
    try:
        os.link(mine, file)  # whole or not at all, and only once
    except FileExistsError:
        pass
    finally:
        mine.unlink()
    return file.read_bytes()


def _unpacked(body: bytes) -> Cursor:
    (_, session, viewer, surface, kind, context, locale, diversity, offset, count, expires_at, release) = (
        _HEAD.unpack_from(body)
    )
    places = range(_HEAD.size, _HEAD.size + count * _HASH_BYTES, _HASH_BYTES)
    return Cursor(
        session_id=session.hex(), viewer=viewer, surface=_SURFACES[surface], content_type=_TYPES[kind], context=context,
        locale=locale, diversity=diversity, offset=offset, expires_at=expires_at, release=release,
        shown=tuple(int.from_bytes(body[at : at + _HASH_BYTES], "big") for at in places),
    )  # fmt: skip


def _bytes(text: str) -> bytes:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.urlsafe_b64encode(raw).rstrip(b"=") == text.encode() else b""


def _digest(text: str, size: int) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()


def _optional(text: str | None) -> bytes:
    return bytes(8) if text is None else _digest(text, 8)
