"""The feed's query string: parsed and checked; each error is a sentence that names field, value and what is allowed."""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from fastapi import Query
from pydantic import BaseModel, ConfigDict

from events.schema import ContentType, Surface
from serving.errors import BadRequest
from serving.feed import FeedRequest

MAX_LIMIT = 100
MAX_ID = 128
# No feed is asked for before computers or after year 9999: what datetime can hold.
EARLIEST_S, LATEST_S = 0.0, 253_402_300_000.0
NOW_HEADER = "X-Livefeed-Now"
Word = TypeVar("Word", bound=StrEnum)


class FeedQuery(BaseModel):
    """The query string as OpenAPI shows it; values are texts, checked by `parse` so that every error is ours."""

    model_config = ConfigDict(extra="allow")

    user_id: Annotated[
        str | None, Query(description="The viewer, 1 to 128 characters; required.", examples=["u42"])
    ] = None
    surface: Annotated[str, Query(description=f"Where the feed is shown: {', '.join(Surface)}.", examples=["home"])] = (
        Surface.HOME
    )
    content_type: Annotated[
        str | None, Query(description=f"Only this kind: {', '.join(ContentType)}; default all.", examples=["LIVE"])
    ] = None
    context_item_id: Annotated[
        str | None, Query(description="The item being played, on the playback and comment surfaces.", examples=["m7"])
    ] = None
    limit: Annotated[str, Query(description=f"Items wanted, 1 to {MAX_LIMIT}.", examples=["20"])] = "20"
    diversity: Annotated[
        str, Query(description="0 (order by score alone) to 1 (content types evenly mixed).", examples=["0.2"])
    ] = "0.2"


def parse(
    query: Mapping[str, str | None], now_header: str | None, *, request_id: str, wall: Callable[[], float]
) -> FeedRequest:
    """A checked request; BadRequest otherwise. `now_header` is None where the wall clock rules."""
    for name in query:
        if name not in FeedQuery.model_fields:
            raise BadRequest(f"unknown parameter {name[:64]!r}; allowed are {', '.join(FeedQuery.model_fields)}")
    given = {name: value for name, value in query.items() if value is not None}
    if "user_id" not in given:
        raise BadRequest("user_id is missing; allowed is an id of 1 to 128 characters")
    return FeedRequest(
        request_id=request_id,
        user_id=_id("user_id", given["user_id"]),
        now=wall() if now_header is None else _number(NOW_HEADER, now_header, EARLIEST_S, LATEST_S, "epoch seconds"),
        surface=_word("surface", given.get("surface", Surface.HOME), Surface),
        content_type=_word("content_type", given["content_type"], ContentType) if "content_type" in given else None,
        context_item_id=_id("context_item_id", given["context_item_id"]) if "context_item_id" in given else None,
        limit=_limit(given.get("limit", "20")),
        diversity=_number("diversity", given.get("diversity", "0.2"), 0.0, 1.0, "a number"),
    )


def _refuse(name: str, value: str, allowed: str) -> BadRequest:
    shown = value if len(value) <= 64 else value[:64] + "…"
    return BadRequest(f"{name}={shown!r} is not allowed; allowed is {allowed}")


def _id(name: str, value: str) -> str:
    if not 1 <= len(value) <= MAX_ID or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in value):
        raise _refuse(name, value, f"an id of 1 to {MAX_ID} printable characters")
    return value


def _word(name: str, value: str, kind: type[Word]) -> Word:
    if value not in set(kind):
        raise _refuse(name, value, f"one of {', '.join(kind)}")
    return kind(value)


def _limit(value: str) -> int:
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 6 else 0
    if not 1 <= number <= MAX_LIMIT:
        raise _refuse("limit", value, f"a whole number from 1 to {MAX_LIMIT}")
    return number


def _number(name: str, value: str, low: float, high: float, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise _refuse(name, value, f"{what} from {low:g} to {high:g}")
    return number


EXAMPLE: dict[str, Any] = {
    "request_id": "5f2b9c0e7d1a4c3f", "user_id": "u42", "surface": "home", "release": "demo-3", "model_version": 3,
    "arm": "stable", "degraded": [], "features_age": {},
    "items": [{
        "item_id": "room-17", "content_type": "LIVE", "creator_id": "h5", "title": "Late night jazz", "category": "music",
        "position": 0, "score": 1.31, "scores": {"click": 0.62, "completion": 0.44, "like": 0.25}, "source": "followed",
        "live": True, "status": "song",
    }],
}  # fmt: skip
BAD_EXAMPLE = {"error": "limit='-1' is not allowed; allowed is a whole number from 1 to 100"}
