"""A feed request and its answer, by value; the answer's JSON form is the API's."""

from msgspec import Struct

from events.schema import ContentType, Surface

# Why an answer is less than it could be; every value `degraded` can hold.
MODEL_UNAVAILABLE = "model_unavailable"
FEATURES_UNAVAILABLE = "features_unavailable"
NO_CANDIDATES = "no_candidates"
DEGRADATIONS = (MODEL_UNAVAILABLE, FEATURES_UNAVAILABLE, NO_CANDIDATES)
STABLE = "stable"


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


class Scored(Struct, frozen=True, kw_only=True):
    """A candidate with its score; `merit` in 0..1 is what it is ordered by, `scores` is empty when no model answered."""

    item_id: str
    content_type: str
    creator_id: str
    source: str
    score: float
    merit: float
    scores: dict[str, float]


class Pick(Struct, frozen=True, kw_only=True):
    """A candidate at its place; `propensity` is the logging policy's probability of it there."""

    scored: Scored
    propensity: float | None
