"""Three readings of one log agree: the collector's online values, Spark's from the tables, and plain Python's from the bytes.

20,000 events of every type arrive out of order, twice and late, through collectors that die; entities of all kinds are read
in between, from the newest event's own instant to hours after it.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from benchmarks.parity import mismatches, spark_values
from benchmarks.parity_replay import Asked, Disorder, Replay, agree
from collector.config import TIMED_TOPICS
from events import schema as s
from features.definitions import BY_ENTITY, Entity
from features.redis import RedisStore
from tests.features import reference
from tests.features.conftest import at
from tests.redis_servers import Server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EVENTS, DAYS, RUSH_MINUTES = 20_000, 9, 20
SURFACES = tuple(s.Surface)
ACTED = (s.GiftSent, s.CommentPosted, s.StreamerFollowed, s.RoomShared)
WORDS = ("music", "sport", "children's", "news", "ünïcode", "song", "talk")
DISORDER = Disorder(seed=11, moments=6, duplicate_share=0.1, late_share=0.03, poll_limit=500)


class Story(NamedTuple):
    """What was read online, and what plain Python says of it."""

    asked: list[Asked]
    reference: list[dict[str, Any]]
    replay: Replay


def night(draw: random.Random) -> Iterator[s.Event]:
    """Events of every type over nine days, most in six rushes; half of them lie on full minutes: many share an instant."""
    rushes = [draw.randrange(DAYS * 24 * 60) for _ in range(6)]
    for number in range(EVENTS):
        rush = draw.choice(rushes) + draw.randrange(RUSH_MINUTES)
        minutes = rush if draw.random() < 0.7 else draw.randrange(DAYS * 24 * 60)
        when = at(minutes) + timedelta(microseconds=draw.choice((0, draw.randrange(60_000_000))))
        some = draw.random()
        if some < 0.06:
            yield described(draw, f"e{number - 1}", when)  # an id that another topic may have too
        elif some < 0.14:
            yield room_told(draw, f"r{number}", when)
        elif some < 0.17:
            yield profile(draw, f"p{number}", when)
        else:
            yield engaged(draw, f"e{number}", when)


def item(draw: random.Random) -> str:
    return f"i{min(int(draw.expovariate(1 / 150)), 899)}"


def viewer(draw: random.Random) -> str:
    return f"u{min(int(draw.expovariate(1 / 6)), 60)}"


def described(draw: random.Random, event_id: str, when: datetime) -> s.Event:
    common = {"event_id": event_id, "event_at": when, "item_id": item(draw)}
    if draw.random() < 0.2:
        return draw.choice((s.MediaHidden, s.MediaRemoved))(**common)
    return s.MediaPublished(
        **common, creator_id=f"c{draw.randrange(8)}", content_type=draw.choice(("VIDEO", "AUDIO")),
        category=draw.choice(WORDS), tags=tuple(draw.sample(WORDS, draw.randrange(4))), title=draw.choice(("", "A, b")),
        language=draw.choice(("unknown", "ko", "en")), duration_s=draw.choice((None, 61.5, 90.0, 9.25, 12_345_678.5)),
    )  # fmt: skip


def room_told(draw: random.Random, event_id: str, when: datetime) -> s.Event:
    number = room_of(draw, when)
    room = {"event_id": event_id, "event_at": when, "room_id": f"r{number}", "streamer_id": f"h{number % 7}"}
    kind = draw.choice((s.RoomOpened, s.RoomClosed, s.RoomStatusChanged, s.RoomHeartbeat, s.RoomHeartbeat))
    if kind is s.RoomOpened:
        tags = tuple(draw.sample(WORDS, draw.randrange(3)))
        return kind(**room, category=draw.choice(WORDS), tags=tags, status=draw.choice(("chat", "song")))
    return kind(**room, status=draw.choice(("dance", "PK"))) if kind is s.RoomStatusChanged else kind(**room)


def room_of(draw: random.Random, when: datetime) -> int:
    """One of three rooms of the day."""
    return when.day * 3 + draw.randrange(3)


def profile(draw: random.Random, event_id: str, when: datetime) -> s.Event:
    common = {"event_id": event_id, "event_at": when, "language": draw.choice((None, "ko", "en"))}
    if draw.random() < 0.5:
        joined = draw.choice((None, at(-9_000), at(-9_000) + timedelta(microseconds=7)))
        return s.CreatorProfile(**common, user_id=f"c{draw.randrange(8)}", region="kr", joined_at=joined)
    blocked = tuple(f"c{n}" for n in range(draw.randrange(3)))
    return s.ViewerProfile(**common, user_id=viewer(draw), blocked_creators=blocked)


def engaged(draw: random.Random, event_id: str, when: datetime) -> s.Event:
    common: dict[str, Any] = {"event_id": event_id, "event_at": when, "user_id": viewer(draw)}
    some, surface = draw.random(), draw.choice(SURFACES)
    if some < 0.05:
        return s.FeedClicked(**common, item_id=item(draw), request_id="q", position=1)
    if some < 0.1:
        about = draw.choice((None, item(draw)))
        return s.SubscriptionToCreator(**common, creator_id=draw.choice(("c1", "c2", "u1")), item_id=about)
    if some < 0.55:
        kind = draw.choice((*[s.MediaStarted] * 6, *s.MEDIA_ENGAGEMENT))
        maker = draw.choice((None, f"c{draw.randrange(8)}"))  # not every player says whose item it is
        return kind(**common, item_id=item(draw), creator_id=maker, surface=surface)
    number = room_of(draw, when)
    live = {**common, "room_id": f"r{number}", "streamer_id": f"h{number % 7}", "surface": surface}
    kind = draw.choice((s.RoomEntered, *s.LIVE_ENGAGEMENT, *ACTED, *ACTED))
    if kind is s.GiftSent:
        return kind(**live, amount=draw.choice((1.0, 0.1, 50.0)))
    return kind(**live, watched_s=40.0) if kind is s.RoomLeft else kind(**live)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The log replayed once, read at five moments."""
    folder = tmp_path_factory.mktemp("parity")
    server = Server(folder / "redis").start()
    try:
        replay = Replay(folder / "lake", RedisStore(server.url), DISORDER)
        asked: list[Asked] = []
        third: list[dict[str, Any]] = []
        told = sorted(night(random.Random(3)), key=lambda event: event.event_at)
        for moment in replay.moments(told):
            records = [one for lane in replay.log.records.values() for one in lane]
            kept = reference.read(records, timed=TIMED_TOPICS, lateness_s=DISORDER.lateness_s)
            plain = reference.Reference(kept)
            some = list(replay.ask(moment, 60))
            asked += some
            third += [plain.value(one.entity.value, one.id, one.at) for one in some]
        yield Story(asked, third, replay)
    finally:
        server.kill()


def test_the_night_is_as_disturbed_as_it_is_meant_to_be(story: Story) -> None:
    counts = story.replay.counts
    assert counts["late"] > 100 and counts["duplicate"] > 1_000 and story.replay.restarts >= 4
    busiest = max((one for one in story.asked if one.entity is Entity.USER), key=lambda one: one.online["plays"])
    assert busiest.online["plays"] > 500


def test_the_online_values_are_those_of_a_plain_reading_of_the_log(story: Story) -> None:
    wrong = mismatches(story.asked, story.reference)
    assert [(one.feature, one.asked.id, one.online, one.other) for one in wrong[:5]] == []


def test_spark_says_the_same_of_every_feature_at_every_point(story: Story, spark: "SparkSession") -> None:
    wrong = mismatches(story.asked, spark_values(spark, story.replay.lake, story.asked))
    assert [(one.feature, one.asked.id, one.online, one.other) for one in wrong[:5]] == []


@pytest.mark.parametrize("entity", Entity)
def test_no_feature_is_compared_at_its_default_alone(story: Story, entity: Entity) -> None:
    mine = [one.online for one in story.asked if one.entity is entity]
    still = [
        feature.name for feature in BY_ENTITY[entity] if all(agree(one[feature.name], feature.default) for one in mine)
    ]
    assert still == []


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (2.0, 2, True), (2.0, 3.0, False), (0.5, 0.5000001, True), (0.5, 0.50001, False), (1e9, 1e9 + 1, False),
        ((), [], True), (["a", "b"], ["b", "a"], False), ({"a": 0.5}, {"a": 0.5, "b": 1.0}, False), (None, 0.0, False),
    ],
)  # fmt: skip
def test_values_agree_when_whole_numbers_are_equal_and_others_near(left: Any, right: Any, same: bool) -> None:
    assert agree(left, right) is same
