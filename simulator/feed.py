"""Where the world's viewers get their feeds: the product over HTTP, nobody, or a uniformly random choice."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from events import schema as s
from events.clock import utc
from events.log import EventWriter
from simulator.catalogue import Thing
from simulator.errors import BadDial, FeedFailed
from simulator.streams import stream

PATH = "/api/v1/content/feed"
NOW_HEADER = "X-Livefeed-Now"


@dataclass(frozen=True)
class FeedItem:
    """One row of a feed; `position` counts from 0."""

    request_id: str
    item_id: str
    content_type: str
    creator_id: str
    position: int
    degraded: bool = False  # the whole answer fell back to something simpler
    own: bool = False  # chosen by the world itself, not by the product


class Feed(Protocol):
    """Answers one viewer's request for a feed."""

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """At most `limit` items as of `now` (epoch seconds), best first; FeedFailed when there is no answer.

        `context_item_id` is the item that is being played where the feed is shown.
        """
        ...


class HttpFeed:
    """The product's feed API at `address`; one connection, kept alive."""

    def __init__(self, address: str, *, timeout_s: float = 10.0) -> None:
        self._client = httpx.Client(base_url=address, timeout=timeout_s, trust_env=False)

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """One GET with the world's now in the header that proxies with a request clock read."""
        params: dict[str, str | int] = {"user_id": user_id, "surface": str(surface), "limit": limit}
        if content_type is not None:
            params["content_type"] = content_type
        if context_item_id is not None:
            params["context_item_id"] = context_item_id
        try:
            answer = self._client.get(PATH, params=params, headers={NOW_HEADER: f"{now:.3f}"})
            if answer.status_code != httpx.codes.OK:
                raise FeedFailed(
                    f"the feed answered status {answer.status_code} to user {user_id}: {answer.text[:200]}"
                )
            return _items(answer.json())
        except httpx.HTTPError as error:
            raise FeedFailed(f"the feed at {self._client.base_url} did not answer: {error}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise FeedFailed(f"the feed's answer to user {user_id} is not a page of items: {error!r}") from None

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def _items(page: dict[str, Any]) -> list[FeedItem]:
    request_id, degraded = str(page["request_id"]), bool(page.get("degraded"))
    return [
        FeedItem(
            request_id, str(row["item_id"]), str(row["content_type"]), str(row["creator_id"]), int(row["position"]), degraded
        )
        for row in page["items"]
    ]  # fmt: skip


class NoFeed:
    """A platform without a feed: viewers do only what they do on their own."""

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """Nothing."""
        return []


class RandomFeed:
    """Uniformly random over what `on(now)` says is on; with a writer it logs its impressions, propensities known."""

    def __init__(self, on: Callable[[float], list[Thing]], *, seed: int, writer: EventWriter | None = None) -> None:
        self._on, self._writer, self._rng = on, writer, stream(seed, "random feed")
        self._prefix, self._count = f"random-{seed}", 0

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """A random page without repetition."""
        things = [one for one in self._on(now) if content_type is None or one.content_type == content_type]
        self._count += 1
        request_id = f"{self._prefix}-{self._count:06d}"
        chosen = self._rng.permutation(len(things))[:limit]
        page = [
            FeedItem(request_id, thing.item_id, thing.content_type, thing.creator_id, position, own=True)
            for position, thing in enumerate(things[index] for index in chosen)
        ]
        if self._writer is not None:
            for item in page:
                self._writer.send(_impression(item, user_id, surface=surface, now=now, chance=1.0 / len(things)))
            if not page:
                self._writer.send(
                    s.EmptyFeed(
                        event_id=f"{request_id}:empty", event_at=utc(now), request_id=request_id, user_id=user_id,
                        surface=surface,
                    )
                )  # fmt: skip
        return page


class MixedFeed:
    """Asks `other` for a share of the requests and `feed` for the rest; a coin of its own stream decides.

    A young platform must explore: what a feed of trending items logs can only confirm what it showed (docs/world.md).
    """

    def __init__(self, feed: Feed, other: Feed, *, share: float, seed: int) -> None:
        if not 0 <= share <= 1:
            raise BadDial(f"world dial random_feed_share={share} is not allowed; give a number from 0 to 1")
        self._feed, self._other, self._share, self._rng = feed, other, share, stream(seed, "mixed feed")

    def ask(
        self, user_id: str, *, surface: s.Surface, content_type: str | None, limit: int, now: float,
        context_item_id: str | None = None,
    ) -> list[FeedItem]:  # fmt: skip
        """A page of one of the two."""
        chosen = self._other if self._rng.random() < self._share else self._feed
        return chosen.ask(
            user_id, surface=surface, content_type=content_type, limit=limit, now=now, context_item_id=context_item_id
        )  # fmt: skip


def _impression(item: FeedItem, user_id: str, *, surface: s.Surface, now: float, chance: float) -> s.Impression:
    return s.Impression(
        event_id=f"{item.request_id}:{item.position}", event_at=utc(now), request_id=item.request_id, user_id=user_id,
        item_id=item.item_id, content_type=s.ContentType(item.content_type), creator_id=item.creator_id,
        position=item.position, surface=surface, source="random", propensity=chance,
    )  # fmt: skip
