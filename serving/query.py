"""The feed's query string: parsed and checked; each error is a sentence that names field, value and what is allowed."""

import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from events.schema import ContentType, Surface
from serving.cursor import LONGEST as LONGEST_CURSOR
from serving.errors import BadRequest
from serving.feed import FeedRequest

MAX_LIMIT = 100
MAX_ID = 128
MAX_LOCALE = 35  # what RFC 5646 asks of anyone who stores tags
# No feed is asked for before computers or after year 9999: what datetime can hold.
EARLIEST_S, LATEST_S = 0.0, 253_402_300_000.0
NOW_HEADER = "X-Livefeed-Now"
MAX_FIELDS = 32  # parameters looked at before a query string is refused
_ID = r"^[^\u0000-\u001f]+$"
_LOCALE = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
_CURSOR = r"^[A-Za-z0-9_-]+$"
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
Word = TypeVar("Word", bound=StrEnum)


class Parameter(NamedTuple):
    """A query parameter as OpenAPI shows it."""

    description: str
    schema: dict[str, Any]
    example: str | int | float


def _id_schema() -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": MAX_ID, "pattern": _ID}


PARAMETERS: dict[str, Parameter] = {
    "user_id": Parameter(
        "The viewer, 1 to 128 characters; required, unless a token says who she is.", _id_schema(), "u42"
    ),
    "surface": Parameter(
        "Where the feed is shown.",
        {"type": "string", "enum": [str(one) for one in Surface], "default": str(Surface.HOME)},
        "home",
    ),
    "content_type": Parameter(
        "Only this kind; default all.", {"type": "string", "enum": [str(one) for one in ContentType]}, "LIVE"
    ),
    "context_item_id": Parameter(
        "The item being played, on the playback and comment surfaces; an item or room that is known.",
        _id_schema(),
        "m7",
    ),
    "limit": Parameter("Items wanted.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": 20}, 20),
    "diversity": Parameter(
        "0: order by score alone; 1: content types evenly mixed.",
        {"type": "number", "minimum": 0, "maximum": 1, "default": 0.2},
        0.2,
    ),
    "cursor": Parameter(
        "`next_cursor` of the last page, to ask for the one after it; every other parameter but `limit` as it was.",
        {"type": "string", "minLength": 1, "maxLength": LONGEST_CURSOR, "pattern": _CURSOR},
        "AVvLzr1xT2yCk0mQ",
    ),
    "locale": Parameter(
        "The viewer's language and region, as a BCP 47 tag: what is in it comes first, where her profile has no language.",
        {"type": "string", "maxLength": MAX_LOCALE, "pattern": _LOCALE},
        "pt-BR",
    ),
}


class Asked(NamedTuple):
    """A checked query: the request as of a first page, and the cursor that makes it a later one."""

    request: FeedRequest
    cursor: str | None


def fields(query: bytes) -> dict[str, str]:
    """The parameters by name; BadRequest when one is unknown or repeated or the bytes are no UTF-8."""
    try:
        pairs = parse_qsl(
            query.decode(), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=MAX_FIELDS
        )
    except UnicodeDecodeError:
        raise BadRequest("the query string is not UTF-8; allowed is percent-encoded UTF-8") from None
    except ValueError:
        raise BadRequest(f"the query string has over {MAX_FIELDS} parameters; allowed is each at most once") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise BadRequest(f"unknown parameter {_short(name)!r}; allowed are {', '.join(PARAMETERS)}")
        if name in found:
            raise BadRequest(
                f"{name}={_short(value)!r} is not allowed after {name}={_short(found[name])!r}; allowed is one"
            )
        found[name] = value
    return found


def parse(
    given: Mapping[str, str],
    now_header: str | None,
    *,
    request_id: str,
    wall: Callable[[], float],
    viewer: str | None = None,
) -> Asked:
    """A checked request; BadRequest otherwise.

    `now_header` is None where the wall clock rules; `viewer` is who a token says is asking.
    """
    if viewer is None and "user_id" not in given:
        raise BadRequest(f"user_id is missing; allowed is an id of 1 to {MAX_ID} characters")
    locale, cursor = given.get("locale"), given.get("cursor")
    request = FeedRequest(
        request_id=request_id,
        user_id=_id("user_id", given["user_id"]) if viewer is None else viewer,
        now=wall() if now_header is None else _number(NOW_HEADER, now_header, EARLIEST_S, LATEST_S, "epoch seconds"),
        surface=_word("surface", given.get("surface", Surface.HOME), Surface),
        content_type=_word("content_type", given["content_type"], ContentType) if "content_type" in given else None,
        context_item_id=_id("context_item_id", given["context_item_id"]) if "context_item_id" in given else None,
        limit=_limit(given.get("limit", "20")),
        diversity=_number("diversity", given.get("diversity", "0.2"), 0.0, 1.0, "a number"),
        locale=None if locale is None else _shaped("locale", locale, MAX_LOCALE, _LOCALE, "a BCP 47 tag such as pt-BR"),
    )
    if cursor is not None:
        _shaped("cursor", cursor, LONGEST_CURSOR, _CURSOR, "the next_cursor of this feed's last page")
    return Asked(request, cursor)


def is_id(value: str) -> bool:
    """Whether it can be an id: 1 to 128 characters, no control characters and nothing UTF-8 cannot say."""
    return 1 <= len(value) <= MAX_ID and not any(ord(one) < 32 or 0xD800 <= ord(one) < 0xE000 for one in value)


def refuse(name: str, value: str, allowed: str) -> BadRequest:
    """The sentence for a value that is not allowed."""
    return BadRequest(f"{name}={_short(value)!r} is not allowed; allowed is {allowed}")


def _short(value: str) -> str:
    return value if len(value) <= 64 else value[:64] + "…"


def _id(name: str, value: str) -> str:
    if not is_id(value):
        raise refuse(name, value, f"an id of 1 to {MAX_ID} printable characters")
    return value


def _word(name: str, value: str, kind: type[Word]) -> Word:
    if value not in set(kind):
        raise refuse(name, value, f"one of {', '.join(kind)}")
    return kind(value)


def _shaped(name: str, value: str, longest: int, pattern: str, allowed: str) -> str:
    if len(value) > longest or not re.fullmatch(pattern, value):
        raise refuse(name, value, allowed)
    return value


def _limit(value: str) -> int:
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 6 else 0
    if not 1 <= number <= MAX_LIMIT:
        raise refuse("limit", value, f"a whole number from 1 to {MAX_LIMIT}")
    return number


def _number(name: str, value: str, low: float, high: float, what: str) -> float:
    number = float(value) if _NUMBER.fullmatch(value) else math.nan
    if not low <= number <= high:
        raise refuse(name, value, f"{what} from {low:g} to {high:g}")
    return number
