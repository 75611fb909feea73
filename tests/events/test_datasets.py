"""Real data sets as events: counts against pandas, the labels' meaning, order, and errors that name file and line."""

import functools
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import pandas as pd
import pytest

from events import datasets
from events import schema as s
from events.datasets import kuairand, movielens
from events.errors import BadDataset
from events.topics import decode, encode, kind_of, topic_of

LIKES = (s.MediaLiked, s.MediaShared, s.MediaAddedToPlaylist, s.MediaReplay)


@functools.cache  # a set is read once for all tests
def read(shared_data: Path, name: str) -> list[s.Event]:
    folder = {"movielens": "ml-100k", "kuairand": "kuairand-27k-likehate"}[name]
    return list(datasets.read(name, shared_data / folder))


def counts(events: list[s.Event]) -> Counter[str]:
    return Counter(kind_of(event) for event in events)


def liked_requests(events: list[s.Event]) -> set[str | None]:
    return {e.request_id for e in events if isinstance(e, LIKES)}


def test_movielens_counts_are_those_of_the_rating_table(shared_data: Path) -> None:
    ratings = pd.read_csv(shared_data / "ml-100k/ml-100k.inter", sep="\t", names=["u", "i", "r", "t"], header=0)
    assert len(ratings) == 100_000
    assert counts(read(shared_data, "movielens")) == {
        "viewer_profile": 943,
        "media_published": 1_682,
        "impression": len(ratings),
        "media_started": len(ratings),
        "media_completed": int((ratings.r == 5).sum()),
        "media_liked": int((ratings.r >= 4).sum()),
        "media_paused_early": int((ratings.r == 2).sum()),
        "media_disliked": int((ratings.r == 1).sum()),
    }


def test_a_movielens_sample_is_liked_exactly_when_it_was_rated_4_or_more(shared_data: Path) -> None:
    events = read(shared_data, "movielens")
    liked = liked_requests(events)
    ours = {(e.user_id, e.item_id): e.request_id in liked for e in events if isinstance(e, s.Impression)}
    ratings = pd.read_csv(shared_data / "ml-100k/ml-100k.inter", sep="\t", names=["u", "i", "r", "t"], header=0)
    assert ours == {(f"ml-u{u}", f"ml-i{i}"): r >= 4 for u, i, r in zip(ratings.u, ratings.i, ratings.r, strict=True)}


def test_a_rating_of_five_completes_and_likes_a_second_apart_under_one_request() -> None:
    impression, *rest = movielens.rated(movielens.Rating(875_000_000, "ml-u7", "ml-i50", 5))
    assert isinstance(impression, s.Impression)
    assert impression.event_at.timestamp() == 875_000_000
    assert (impression.source, impression.position, impression.features) == ("replay", 0, None)
    assert [(kind_of(e), e.event_at.timestamp() - 875_000_000) for e in rest] == [
        ("media_started", 1.0), ("media_completed", 2.0), ("media_liked", 3.0),
    ]  # fmt: skip
    assert {e.request_id for e in (impression, *rest)} == {"ml-r7-50"}


@pytest.mark.parametrize(
    ("stars", "after_the_start"),
    [(4, ["media_liked"]), (3, []), (2, ["media_paused_early"]), (1, ["media_disliked"])],
)
def test_fewer_stars_say_less(stars: int, after_the_start: list[str]) -> None:
    events = movielens.rated(movielens.Rating(1, "ml-u7", "ml-i50", stars))
    assert [kind_of(e) for e in events] == ["impression", "media_started", *after_the_start]


def test_movielens_items_are_published_and_viewers_known_before_the_first_rating(shared_data: Path) -> None:
    events = read(shared_data, "movielens")
    first = next(e.event_at for e in events if isinstance(e, s.Impression))
    toy_story = next(e for e in events if isinstance(e, s.MediaPublished) and e.item_id == "ml-i1")
    assert (toy_story.title, toy_story.category) == ("Toy Story", "animation")
    assert toy_story.tags == ("animation", "children's", "comedy")
    assert all(e.event_at < first for e in events if isinstance(e, (s.MediaPublished, s.ViewerProfile)))
    profile = next(e for e in events if isinstance(e, s.ViewerProfile) and e.user_id == "ml-u1")
    assert (profile.age_band, profile.gender) == ("18_24", "male")
    assert b"technician" not in encode(profile)


@pytest.mark.parametrize(("age", "band"), [(7, "under_18"), (18, "18_24"), (54, "45_54"), (65, "65_plus")])
def test_ages_become_bands(age: int, band: str) -> None:
    assert movielens.age_band(age) == band


def test_kuairand_counts_are_those_of_the_distinct_rows(shared_data: Path) -> None:
    table = pd.read_csv(shared_data / "kuairand-27k-likehate/processed_standard_kcore_15.tsv", sep="\t")
    rows = table.drop_duplicates(["user_id", "video_id", "time_ms"])
    assert len(table) - len(rows) == 124
    known = (rows.is_click == 1) & (rows.duration_ms > 0)
    share = rows.play_time_ms / rows.duration_ms.where(rows.duration_ms > 0)
    assert counts(read(shared_data, "kuairand")) == {
        "media_published": rows.video_id.nunique(),
        "impression": len(rows),
        "media_started": int(rows.is_click.sum()),
        "media_completed": int((known & (share > 0.9)).sum()),
        "media_paused_early": int((known & (share < 0.3)).sum()),
        "media_liked": int((rows.label == 1).sum()),
        "media_disliked": int((rows.label == 0).sum()),
        "media_shared": int(((rows.is_comment == 1) | (rows.is_forward == 1)).sum()),
        "subscription_to_creator": int(rows.is_follow.sum()),
    }


def shown(**changes: object) -> list[str]:
    row = kuairand.Shown(
        at_ms=1_650_000_000_123, user="1", video="2", clicked=True, followed=False, commented=False, forwarded=False,
        liked=True, play_ms=9_500, duration_ms=10_000,
    )._replace(**changes)  # fmt: skip
    return [kind_of(event) for event in kuairand.shown(row)[1:]]


def test_a_video_of_unknown_length_is_neither_completed_nor_paused() -> None:
    assert shown() == ["media_started", "media_completed", "media_liked"]
    assert shown(duration_ms=0) == ["media_started", "media_liked"]
    assert shown(play_ms=2_000) == ["media_started", "media_paused_early", "media_liked"]
    assert shown(clicked=False) == ["media_liked"]


def test_a_follow_names_the_videos_own_author_and_the_video() -> None:
    row = kuairand.Shown(5_000, "1", "2", True, True, True, True, False, 0, 0)
    *_, last = kuairand.shown(row)
    assert shown(followed=True, commented=True, forwarded=True, liked=False)[-3:] == [
        "media_disliked", "media_shared", "subscription_to_creator",
    ]  # fmt: skip
    assert isinstance(last, s.SubscriptionToCreator)
    assert (last.creator_id, last.item_id, last.request_id) == ("kr-author-of-2", "kr-v2", "kr-r1-2-5000")


@pytest.mark.parametrize("name", datasets.NAMES)
def test_events_come_in_event_time_order_decode_and_have_ids_of_their_own(name: str, shared_data: Path) -> None:
    events = read(shared_data, name)
    assert all(one.event_at <= two.event_at for one, two in itertools.pairwise(events))
    assert len({event.event_id for event in events}) == len(events)
    shown_at: dict[str, float] = {}
    for event in events[::7]:
        assert decode(topic_of(event).name, encode(event)) == event
    for event in events:
        if isinstance(event, s.Impression):
            shown_at[event.request_id] = event.event_at.timestamp()
        elif isinstance(event, (s.MediaEvent, s.SubscriptionToCreator)):
            assert event.request_id is not None
            assert event.event_at.timestamp() >= shown_at[event.request_id] + 1.0


def test_a_second_reading_gives_the_same_bytes(shared_data: Path) -> None:
    again = datasets.read("kuairand", shared_data / "kuairand-27k-likehate")
    assert [encode(e) for e in again] == [encode(e) for e in read(shared_data, "kuairand")]


def small_movielens(folder: Path, **files: str) -> Path:
    """Two ratings of one user; `files` replaces file texts by extension."""
    texts = {
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n1\tToy Story\t1995\tComedy\n",
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n9\t24\tM\tother\t1\n",
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n9\t1\t4\t880000000\n",
    } | files
    for extension, text in texts.items():
        (folder / f"ml-100k.{extension}").write_text(text, encoding="utf-8")
    return folder


HEADER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


@pytest.mark.parametrize(
    ("inter", "message"),
    [
        ("user\titem\n", "line 1 has columns 'user, item'"),
        (HEADER + "9\t1\t4\n", "line 2 has 3 columns; needed are 4"),
        (HEADER + "9\t1\t4\t880000000\n9\t1\t6\t880000000\n", "line 3 has rating 6; allowed are 1 to 5"),
        (HEADER + "9\t1\tgood\t880000000\n", "line 2 has rating 'good'; a whole number is needed"),
        (HEADER + "9\t2\t4\t880000000\n", "rates item 2, which ml-100k.item does not list"),
        (HEADER + "8\t1\t4\t880000000\n", "has a rating by user 8, whom ml-100k.user does not list"),
        (HEADER + "9\t\t4\t880000000\n", "line 2 has an empty item_id"),
        (HEADER, "has no ratings"),
    ],
)
def test_a_bad_file_is_refused_by_name_and_line_before_any_event(tmp_path: Path, inter: str, message: str) -> None:
    folder = small_movielens(tmp_path, inter=inter)
    with pytest.raises(BadDataset, match=r"ml-100k\.inter") as refused:
        datasets.read("movielens", folder)
    assert message in str(refused.value)


def test_the_small_set_the_bad_ones_are_made_from_is_good(tmp_path: Path) -> None:
    assert counts(list(datasets.read("movielens", small_movielens(tmp_path)))) == {
        "viewer_profile": 1, "media_published": 1, "impression": 1, "media_started": 1, "media_liked": 1,
    }  # fmt: skip


def test_a_missing_path_file_or_name_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match=r"nowhere is not a folder; give the folder that holds the movielens files"):
        datasets.read("movielens", tmp_path / "nowhere")
    with pytest.raises(BadDataset, match=r"processed_standard_kcore_15\.tsv is missing"):
        datasets.read("kuairand", tmp_path)
    with pytest.raises(BadDataset, match="unknown data set 'netflix'; allowed are movielens, kuairand"):
        datasets.read("netflix", tmp_path)


def test_rows_of_one_viewer_interleave_by_time() -> None:
    from events.datasets.order import chronological

    late_start = movielens.rated(movielens.Rating(100, "ml-u1", "ml-i1", 5))  # acts at 101, 102, 103
    next_row = movielens.rated(movielens.Rating(102, "ml-u1", "ml-i2", 3))  # shown at 102, started at 103
    by_time = defaultdict(list)
    for event in chronological([late_start, next_row]):
        by_time[event.event_at.timestamp()].append(event.event_id)
    assert by_time == {
        100.0: ["ml-r1-1:0"], 101.0: ["ml-r1-1:started"], 102.0: ["ml-r1-1:completed", "ml-r1-2:0"],
        103.0: ["ml-r1-1:liked", "ml-r1-2:started"],
    }  # fmt: skip
