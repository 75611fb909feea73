"""Trending lists: the formula by hand, the fallbacks, and who may be on a list."""

from pathlib import Path

import pytest

from collector.trending import Trending, recency_weight, trending_score
from events import schema as s
from tests.collector.stories import EVENING, Evening, at, published, started

HOUR = 3600.0


def item(**known: object) -> dict[str, object]:
    return {
        "views_1h_home": 0.0, "play_count_24h": 0.0, "like_ratio": 0.25, "completion_rate": 0.25, "published_at": EVENING,
        "content_type": "VIDEO", "shown": 1.0, "heartbeat_at": None,
    } | known  # fmt: skip


def listed(evening: Evening, name: str = "home:ALL") -> list[str]:
    return [one for one, _ in evening.store.trending(name, 10)]


def test_recency_halves_in_a_day_down_to_a_tenth() -> None:
    assert [recency_weight(age) for age in (0.0, 24.0, 48.0, 1e4, None)] == [1.0, 0.5, 0.25, 0.1, 0.1]


def test_the_score_is_views_times_recency_times_engagement() -> None:
    day_old = item(views_1h_home=8.0, like_ratio=0.5, completion_rate=0.25, published_at=EVENING - 24 * HOUR)
    assert trending_score(day_old, EVENING) == pytest.approx(8 * 0.5 * 1.25, abs=1e-6)


def test_a_single_view_beats_any_past_and_any_past_beats_newness() -> None:
    old = EVENING - 1e7
    viewed = trending_score(item(views_1h_home=1.0, like_ratio=0.0, completion_rate=0.0, published_at=old), EVENING)
    played = trending_score(item(play_count_24h=1e9, published_at=old), EVENING)
    once = trending_score(item(play_count_24h=1.0, published_at=old), EVENING)
    newest = trending_score(item(), EVENING)
    assert viewed > played > once > newest > trending_score(item(published_at=old), EVENING) > 0


def test_lists_follow_the_events_for_every_surface_and_content_type(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    evening.send(published("film"), published("song", content_type="AUDIO"), published("dull"))
    evening.send(started("e1", "u", "song", 5), started("e2", "v", "song", 6), started("e3", "u", "film", 7))
    evening.collect()
    evening.send(started("e4", "w", "dull", 8, surface=s.Surface.PLAYBACK))
    evening.collect()
    assert listed(evening) == ["song", "film", "dull"]
    assert listed(evening, "playback:VIDEO") == ["dull", "film"]
    assert listed(evening, "comment:AUDIO") == ["song"]
    assert listed(evening, "home:LIVE") == []


def test_hidden_items_ended_rooms_and_the_unpublished_are_not_listed(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    for name, end in (("open", 0.0), ("silent", -200.0)):
        opened = s.RoomOpened(event_id=name, event_at=at(end), streamer_id=f"h-{name}", room_id=name, category="music")
        evening.send(opened)
    evening.send(published("film"), published("gone"), started("e1", "u", "ghost", 1))
    evening.send(s.MediaHidden(event_id="hide", event_at=at(2), item_id="gone"))
    evening.collect()
    assert listed(evening) == ["film", "open"] or listed(evening) == ["open", "film"]
    assert listed(evening, "home:LIVE") == ["open"]


def test_a_restarted_collector_keeps_what_was_listed(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    evening.send(published("film"), started("e1", "u", "film", 5))
    evening.collect()
    evening.send(published("song", 10.0, content_type="AUDIO"))
    evening.collect()
    assert listed(evening) == ["film", "song"]


def test_a_list_is_written_again_after_15_event_minutes_or_2_wall_seconds(tmp_path: Path) -> None:
    evening = Evening(tmp_path)
    evening.send(published("film"))
    work = evening.collect(evening.collector(trending_every_s=2.0))
    evening.send(published("soon", 60.0))
    evening.collect(work)
    assert listed(evening) == ["film"]
    evening.send(published("later", 16 * 60.0))
    evening.collect(work)
    assert sorted(listed(evening)) == ["film", "later", "soon"]
    evening.clock.set(EVENING + 2.0)
    evening.send(published("last", 17 * 60.0))
    evening.collect(work)
    assert "last" in listed(evening)


def test_the_list_holds_the_items_touched_last_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.trending.ACTIVE_ITEMS", 2)
    evening = Evening(Path("unused"))
    lists = Trending(evening.store)
    assert set(lists.refresh({}, now=EVENING).values()) == {0}
    lists.refresh({"a": 1.0, "b": 2.0, "c": 3.0}, now=EVENING)
    assert set(lists._states) == {"b", "c"}
