"""A feed request and its answer, by value; the answer's JSON form is the API's."""

from msgspec import Struct

from events.schema import ContentType, Surface

# Why an answer is less than it could be; every value `degraded` can hold.
MODEL_UNAVAILABLE = "model_unavailable"
INDEX_UNAVAILABLE = "index_unavailable"
FEATURES_UNAVAILABLE = "features_unavailable"
NO_CANDIDATES = "no_candidates"
OVERLOADED = "overloaded"
DEGRADATIONS = {
    MODEL_UNAVAILABLE: "no model scored the items, which are what trends",
    INDEX_UNAVAILABLE: "nothing was looked for as nearest to the viewer; the items of the other sources are scored",
    FEATURES_UNAVAILABLE: "the viewer and the items are as last known",
    NO_CANDIDATES: "there is nothing that may be shown",
    OVERLOADED: "there was too much to do, so nothing was asked of any part",
}
STABLE = "stable"


class Session(Struct, frozen=True, kw_only=True):
    """One viewer's ordered feed over its pages: `offset` places of it are done with, of which `shown` were shown."""

    session_id: str
    offset: int
    shown: int
    release: str  # of which it was made


class FeedRequest(Struct, frozen=True, kw_only=True):
    """What a viewer asks for, as of `now` (epoch seconds)."""

    request_id: str
    user_id: str
    now: float
    surface: Surface = Surface.HOME
    content_type: ContentType | None = None
    context_item_id: str | None = None
    limit: int = 20
    diversity: float = 0.2
    locale: str | None = None  # BCP 47; tells the language of a viewer whose profile does not
    session: Session | None = None  # None on the first page
    exclude: frozenset[int] = frozenset()  # `cursor.short_hash` of the items that earlier pages showed


class Age(Struct, frozen=True, kw_only=True):
    """How long ago something was read from the store: event-time and wall seconds."""

    event_s: float
    wall_s: float


class FeedItem(Struct, frozen=True, kw_only=True):
    """One shown item; `score` is the formula's value, or the trending score when no model answered."""

    item_id: str
    content_type: str
    creator_id: str
    title: str
    category: str
    position: int
    score: float
    scores: dict[str, float]
    source: str
    live: bool
    status: str
    rank: int = 1  # 1-based place in the session's feed over its pages; `paging.page` sets it


class Feed(Struct, frozen=True, kw_only=True):
    """The answer to one request."""

    request_id: str
    user_id: str
    surface: str
    release: str
    model_version: int | None
    arm: str
    degraded: tuple[str, ...]
    features_age: dict[str, Age | None]  # of `viewer` and `items` (None: never read) when the store is gone, else empty
    items: tuple[FeedItem, ...]
    next_cursor: str | None = None  # of the next page; None: there is none
