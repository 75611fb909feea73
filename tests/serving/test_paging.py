"""Pages of one session: told with a feed of letters, whose rooms may end between two pages."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from serving.cursor import PLACES, Signer, short_hash
from serving.errors import BadRequest
from serving.feed import Feed, FeedItem, FeedRequest
from serving.paging import Fresh, Pager

SIGNER = Signer(b"k" * 32)
PARTS: Any = SimpleNamespace()


def asked(**more: Any) -> FeedRequest:
    return FeedRequest(**({"request_id": "q", "user_id": "u1", "now": 1000.0, "limit": 3} | more))


def feed(request: FeedRequest, ids: Sequence[str]) -> Feed:
    items = tuple(
        FeedItem(
            item_id=one, content_type="VIDEO", creator_id="c", title="t", category="music", position=place, score=1.0,
            scores={}, source="trending", live=False, status="",
        )
        for place, one in enumerate(ids)
    )  # fmt: skip
    return Feed(
        request_id=request.request_id, user_id=request.user_id, surface="home", release="demo-1", model_version=1,
        arm="stable", degraded=(), features_age={}, items=items,
    )  # fmt: skip


@dataclass
class Letters:
    """A feed of the catalogue's items in their order; `ended` are shown no more."""

    catalogue: list[str]
    ended: set[str] = field(default_factory=set)
    composed: list[FeedRequest] = field(default_factory=list)

    def compose(self, request: FeedRequest, _: Any) -> list[str]:
        self.composed.append(request)
        fine = (one for one in self.catalogue if one not in self.ended and short_hash(one) not in request.exclude)
        return list(fine)[: request.limit]

    def recommend(self, request: FeedRequest, parts: Any) -> Feed:
        return feed(request, self.compose(request, parts))


def turn(pager: Pager, cursor: str | None = None, **more: Any) -> tuple[str, list[int], str | None]:
    page = pager.page(asked(**more), cursor, PARTS)
    return "".join(item.item_id for item in page.items), [item.rank for item in page.items], page.next_cursor


def through(pager: Pager, **more: Any) -> list[tuple[str, list[int]]]:
    cursor, pages = None, []
    for _ in range(20):
        ids, ranks, cursor = turn(pager, cursor, **more)
        pages.append((ids, ranks))
        if cursor is None:
            return pages
    raise AssertionError("the feed does not end")


def test_pages_follow_the_order_without_repeats_or_gaps() -> None:
    pager = Fresh(Letters(list("abcdefgh")).recommend, SIGNER)
    assert through(pager) == [("abc", [1, 2, 3]), ("def", [4, 5, 6]), ("gh", [7, 8])]


def test_pages_are_ranked_again_and_repeat_nothing() -> None:
    letters = Letters(list("abcdef"))
    pager = Fresh(letters.recommend, SIGNER)
    _, _, cursor = turn(pager)
    letters.catalogue = list("fabxcde")
    assert turn(pager, cursor)[:2] == ("fxd", [4, 5, 6])


def test_a_room_that_ended_leaves_no_gap_in_the_ranks() -> None:
    letters = Letters(list("abcdefgh"))
    pager = Fresh(letters.recommend, SIGNER)
    _, _, cursor = turn(pager)
    letters.ended = {"e"}
    assert turn(pager, cursor)[:2] == ("dfg", [4, 5, 6])


def test_the_same_cursor_gives_the_same_page_again() -> None:
    pager = Fresh(Letters(list("abcdef")).recommend, SIGNER)
    _, _, cursor = turn(pager)
    assert turn(pager, cursor)[:2] == turn(pager, cursor)[:2] == ("def", [4, 5, 6])


def test_pages_may_differ_in_size() -> None:
    pager = Fresh(Letters(list("abcdef")).recommend, SIGNER)
    _, _, cursor = turn(pager, limit=1)
    assert turn(pager, cursor, limit=4)[:2] == ("bcde", [2, 3, 4, 5])


def test_a_session_ends_after_two_hundred_places() -> None:
    pager = Fresh(Letters([f"m{n}" for n in range(300)]).recommend, SIGNER)
    ranks = [rank for _, some in through(pager, limit=30) for rank in some]
    assert ranks == list(range(1, PLACES + 1))


def test_a_page_that_is_not_full_is_the_last() -> None:
    assert turn(Fresh(Letters(list("ab")).recommend, SIGNER))[2] is None


def test_a_cursor_is_its_viewers_alone() -> None:
    pager = Fresh(Letters(list("abcdef")).recommend, SIGNER)
    _, _, cursor = turn(pager)
    with pytest.raises(BadRequest, match=r"^user_id='u2' is not allowed with this cursor"):
        turn(pager, cursor, user_id="u2")
