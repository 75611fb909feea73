"""Offline rows: every event type fits its topic's table, and reads back as it was."""

from datetime import UTC, date, datetime, timedelta, timezone

import msgspec
import pyarrow as pa

from events import schema as s
from events.clock import utc
from events.log import Record
from events.tables import SCHEMAS, Stored, table_of, to_arrow, to_row
from events.topics import ENGAGEMENT, IMPRESSIONS, MEDIA, PROFILES, TOPICS
from tests.collector.stories import EVENING, at, published

PLACE = Record(MEDIA, 3, 17, b"k", b"")


def row_of(event: s.Event, *, late: bool = False) -> dict[str, object]:
    return to_row(event, PLACE, ingested_at=utc(EVENING + 5), late=late)


def test_a_tables_columns_are_the_union_of_its_events_fields_and_the_place() -> None:
    for name, topic in TOPICS.items():
        fields = {field for kind in topic.types for field in kind.__struct_fields__}
        extra = {"type", "event_date", "ingested_at", "late", "kafka_partition", "kafka_offset"}
        assert set(SCHEMAS[name].names) == fields | extra
    assert SCHEMAS[MEDIA].field("tags").type == pa.list_(pa.string())
    assert SCHEMAS[IMPRESSIONS].field("features").type == pa.string()
    assert SCHEMAS[ENGAGEMENT].field("event_at").type == pa.timestamp("us", tz="UTC")


def test_a_row_holds_the_event_and_where_the_log_had_it() -> None:
    (found,) = to_arrow(MEDIA, [row_of(published("film", tags=("a",), duration_s=2.5), late=True)]).to_pylist()
    assert (found["item_id"], found["tags"], found["duration_s"], found["type"]) == (
        "film",
        ["a"],
        2.5,
        "media_published",
    )
    assert (found["kafka_partition"], found["kafka_offset"], found["late"]) == (3, 17, True)
    assert found["ingested_at"].timestamp() == EVENING + 5


def test_fields_that_a_type_lacks_are_null() -> None:
    (found,) = to_arrow(MEDIA, [row_of(s.MediaHidden(event_id="h", event_at=at(0), item_id="film"))]).to_pylist()
    assert found["creator_id"] is None and found["tags"] is None and found["item_id"] == "film"


def test_the_date_is_the_utc_day_of_the_event_time_wherever_it_was_written() -> None:
    tokyo = datetime(2026, 11, 2, 8, 59, tzinfo=timezone(timedelta(hours=9)))
    row = row_of(s.MediaHidden(event_id="h", event_at=tokyo, item_id="film"))
    assert (row["event_date"], row["event_at"]) == (date(2026, 11, 1), datetime(2026, 11, 1, 23, 59, tzinfo=UTC))


def test_the_dice_of_a_place_are_json_text_that_reads_back_and_null_where_there_are_none() -> None:
    shadow = s.Shadowed(
        release="demo-4", chose_shown=True, expected_target={"click": 0.5}, expected_incumbent={"click": 0.25}
    )
    for dice, text in (
        (None, None),
        (s.Explored(epsilon=0.2, pool=7), '{"epsilon":0.2,"pool":7}'),
        (
            s.Explored(epsilon=0.2, pool=7, rank=0, shadow=shadow),
            '{"epsilon":0.2,"pool":7,"rank":0,"shadow":{"release":"demo-4","chose_shown":true,'
            '"expected_target":{"click":0.5},"expected_incumbent":{"click":0.25}}}',
        ),
    ):
        seen = s.Impression(
            event_id="r:0", event_at=at(0), request_id="r", user_id="u", item_id="i", content_type=s.ContentType.LIVE,
            creator_id="c", position=0, explored=dice,
        )  # fmt: skip
        (row,) = to_arrow(IMPRESSIONS, [row_of(seen)]).to_pylist()
        (column,) = table_of(IMPRESSIONS, [Stored(seen, PLACE, utc(EVENING + 5), False)])["explored"].to_pylist()
        assert row["explored"] == column == text
        assert text is None or msgspec.json.decode(text, type=s.Explored) == dice


def test_maps_become_json_text_and_words_keep_their_order() -> None:
    seen = s.Impression(
        event_id="r:0", event_at=at(0), request_id="r", user_id="u", item_id="i", content_type=s.ContentType.LIVE,
        creator_id="c", position=0, features={"user.plays": 2.0, "item.tags": ["b", "a"]}, scores={"click": 0.5},
    )  # fmt: skip
    (found,) = to_arrow(IMPRESSIONS, [row_of(seen)]).to_pylist()
    assert found["features"] == '{"user.plays":2.0,"item.tags":["b","a"]}'
    assert (found["scores"], found["content_type"]) == ('{"click":0.5}', "LIVE")
    blocked = s.ViewerProfile(event_id="p", event_at=at(0), user_id="u", blocked_creators=("z", "y"))
    assert to_arrow(PROFILES, [row_of(blocked)]).to_pylist()[0]["blocked_creators"] == ["z", "y"]


def test_rows_made_by_column_are_those_made_one_by_one() -> None:
    tokyo = datetime(2026, 11, 2, 8, 59, tzinfo=timezone(timedelta(hours=9)))
    events: dict[str, list[s.Event]] = {
        MEDIA: [published("film", tags=("a", "b")), s.MediaHidden(event_id="h", event_at=tokyo, item_id="film")],
        PROFILES: [s.CreatorProfile(event_id="p", event_at=at(0), user_id="c", joined_at=tokyo)],
        IMPRESSIONS: [
            s.Impression(
                event_id="r:0", event_at=at(0), request_id="r", user_id="u", item_id="i", creator_id="c", position=0,
                content_type=s.ContentType.LIVE, features={"user.plays": 2.0, "item.tags": ["b"]}, scores={"click": 0.5},
            )
        ],
    }  # fmt: skip
    for topic, some in events.items():
        stored = [
            Stored(event, PLACE, utc(EVENING + 5), late) for event, late in zip(some, (True, False), strict=False)
        ]
        assert table_of(topic, stored).equals(to_arrow(topic, [row_of(one.event, late=one.late) for one in stored]))
