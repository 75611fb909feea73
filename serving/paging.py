"""Pages of one session's feed: each is ranked when it is asked for, without what the pages before it showed.

Ranks count on from page to page without gaps. The cursor carries hashes of what was shown, so nothing is kept of a session.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from serving.attempt import FeedParts
from serving.cursor import PLACES, Cursor, Signer, after, check_same, new_session, release_hash, short_hash
from serving.feed import Feed, FeedRequest, Session


class Pager(Protocol):
    """What the proxy asks for a page."""

    def page(self, request: FeedRequest, cursor: str | None, parts: FeedParts) -> Feed:
        """The page after the cursor, the first without; BadRequest when the cursor is not this feed's."""
        ...


class Fresh:
    """Every page is ranked when it is asked for, without what the pages before it showed."""

    def __init__(self, recommend: Callable[[FeedRequest, FeedParts], Feed], signer: Signer) -> None:
        self._recommend, self._signer = recommend, signer

    def page(self, request: FeedRequest, cursor: str | None, parts: FeedParts) -> Feed:
        """The page after the cursor, the first without; BadRequest when the cursor is not this feed's."""
        session, shown = _begun(request, cursor, self._signer)
        count = min(request.limit, PLACES - len(shown))
        asked = replace(request, session=session, exclude=frozenset(shown), limit=count)
        feed = self._recommend(asked, parts)
        session = replace(session, offset=session.offset + count)
        return _ranked(feed, request, session, shown, self._signer, more=len(feed.items) == count)


def _begun(request: FeedRequest, cursor: str | None, signer: Signer) -> tuple[Session, tuple[int, ...]]:
    """The session at its place, and hashes of what it showed; BadRequest when the cursor is not this feed's."""
    if cursor is None:
        return Session(session_id=new_session(), offset=0, shown=0, release=""), ()
    read: Cursor = signer.read(cursor, now=request.now)
    check_same(read, request)
    return read.session(), read.shown


def _ranked(
    feed: Feed, request: FeedRequest, session: Session, before: Sequence[int], signer: Signer, *, more: bool
) -> Feed:
    """The page with its ranks, and the cursor of the next one if there is `more`; `session` is at the next page."""
    items = tuple(replace(item, rank=len(before) + n) for n, item in enumerate(feed.items, start=1))
    shown = (*before, *(short_hash(item.item_id) for item in items))
    if not more or len(shown) >= PLACES:
        return replace(feed, items=items, next_cursor=None)
    at = replace(session, shown=len(shown), release=release_hash(feed.release))
    cursor = signer.write(after(request, at, release=feed.release, shown=shown))
    return replace(feed, items=items, next_cursor=cursor)
