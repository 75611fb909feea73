"""MovieLens-100K (RecBole's atomic files) as events: a rating becomes one constructed impression and what it says.

A rating is not a play: the mapping is ours. 5 completes and likes, 4 likes, 3 only starts, 2 pauses early, 1 dislikes,
so the samples' `like` label is exactly rating >= 4. docs/guides/datasets.md says what the result may claim.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from events import schema as s
from events.datasets.order import EPOCH, PUBLISHED_BEFORE, STEP, chronological
from events.datasets.rows import Row, read_rows
from events.errors import BadDataset

RATINGS = ("user_id:token", "item_id:token", "rating:float", "timestamp:float")
ITEMS = ("item_id:token", "movie_title:token_seq", "release_year:token", "class:token_seq")
USERS = ("user_id:token", "age:token", "gender:token", "occupation:token", "zip_code:token")
# The set names no creators. One constant says so; a creator an item would only repeat the item's own features.
CREATOR = "ml-unknown-creator"
GENDERS = {"M": "male", "F": "female"}
_AGE_BANDS = ((18, "under_18"), (25, "18_24"), (35, "25_34"), (45, "35_44"), (55, "45_54"), (65, "55_64"))
# What each number of stars says, in order.
_SAYS: dict[int, tuple[tuple[str, type[s.MediaEvent]], ...]] = {
    5: (("started", s.MediaStarted), ("completed", s.MediaCompleted), ("liked", s.MediaLiked)),
    4: (("started", s.MediaStarted), ("liked", s.MediaLiked)),
    3: (("started", s.MediaStarted),),
    2: (("started", s.MediaStarted), ("paused", s.MediaPausedEarly)),
    1: (("started", s.MediaStarted), ("disliked", s.MediaDisliked)),
}


class Rating(NamedTuple):
    """One rating; `at` in epoch seconds. The field order is the replay's: time, then ids where times are equal."""

    at: int
    user: str
    item: str
    stars: int


class Movie(NamedTuple):
    """One item; `genres` in lower case, as the set lists them."""

    item: str
    title: str
    genres: tuple[str, ...]


class Viewer(NamedTuple):
    """One user; occupation and postcode are dropped: no part of the platform may use them."""

    user: str
    age_band: str
    gender: str


def read(folder: Path) -> Iterator[s.Event]:
    """Profiles and publications a day before the first rating, then every rating at its own time; BadDataset."""
    movies = read_rows(folder / "ml-100k.item", ITEMS, _movie)
    viewers = read_rows(folder / "ml-100k.user", USERS, _viewer)
    ratings = sorted(read_rows(folder / "ml-100k.inter", RATINGS, _rating))
    if not ratings:
        raise BadDataset(f"{folder / 'ml-100k.inter'} has no ratings")
    _refuse_unknown(folder, ratings, {one.item for one in movies}, {one.user for one in viewers})
    return _events(movies, viewers, ratings)


def _events(movies: list[Movie], viewers: list[Viewer], ratings: list[Rating]) -> Iterator[s.Event]:
    before = EPOCH + STEP * ratings[0].at - PUBLISHED_BEFORE
    for viewer in viewers:
        yield s.ViewerProfile(
            event_id=f"{viewer.user}:profile", event_at=before, user_id=viewer.user, age_band=viewer.age_band,
            gender=viewer.gender,
        )  # fmt: skip
    for movie in movies:
        yield s.MediaPublished(
            event_id=f"{movie.item}:published", event_at=before, item_id=movie.item, creator_id=CREATOR,
            content_type="VIDEO", category=movie.genres[0], title=movie.title, tags=movie.genres,
        )  # fmt: skip
    yield from chronological(rated(rating) for rating in ratings)


def rated(rating: Rating) -> list[s.Event]:
    """The impression at the rating's time and, a second apart, what the stars say; all under one request id."""
    request = f"ml-r{rating.user[4:]}-{rating.item[4:]}"
    at = EPOCH + STEP * rating.at
    out: list[s.Event] = [
        s.Impression(
            event_id=f"{request}:0", event_at=at, request_id=request, user_id=rating.user, item_id=rating.item,
            content_type=s.ContentType.VIDEO, creator_id=CREATOR, position=0, source="replay",
        )
    ]  # fmt: skip
    for name, kind in _SAYS[rating.stars]:
        at += STEP
        out.append(
            kind(
                event_id=f"{request}:{name}", event_at=at, user_id=rating.user, item_id=rating.item, creator_id=CREATOR,
                request_id=request,
            )
        )  # fmt: skip
    return out


def age_band(age: int) -> str:
    """The band of an age in years."""
    return next((band for limit, band in _AGE_BANDS if age < limit), "65_plus")


def _rating(row: Row) -> Rating:
    at = row.integer("timestamp", low=0, high=2**33)
    stars = row.integer("rating", low=1, high=5)
    return Rating(at, f"ml-u{row.word('user_id')}", f"ml-i{row.word('item_id')}", stars)


def _movie(row: Row) -> Movie:
    return Movie(f"ml-i{row.word('item_id')}", row.word("movie_title"), tuple(row.word("class").lower().split()))


def _viewer(row: Row) -> Viewer:
    gender = row.word("gender")
    if gender not in GENDERS:
        raise row.refuse(f"has gender {gender!r}; allowed are {', '.join(GENDERS)}")
    return Viewer(f"ml-u{row.word('user_id')}", age_band(row.integer("age", low=0, high=130)), GENDERS[gender])


def _refuse_unknown(folder: Path, ratings: list[Rating], items: set[str], users: set[str]) -> None:
    path = folder / "ml-100k.inter"
    for rating in ratings:
        if rating.item not in items:
            raise BadDataset(f"{path} rates item {rating.item[4:]}, which ml-100k.item does not list")
        if rating.user not in users:
            raise BadDataset(f"{path} has a rating by user {rating.user[4:]}, whom ml-100k.user does not list")
