"""The request's main path on memory parts: what is shown, what is logged, and what failures do to it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from events import schema as s
from events.clock import utc
from events.log import Record
from events.topics import IMPRESSIONS, decode
from features.definitions import Entity
from features.errors import StoreUnavailable
from features.snapshot import read_known, snapshot
from features.store import MemoryStore, OfViewer
from serving.attempt import Attempt, FeedConfig, FeedParts
from serving.bootstrap import BootstrapConfig
from serving.candidates import Quotas
from serving.catalogue_view import FRESH_S
from serving.errors import UnknownItem
from serving.feed import Feed, FeedRequest, Session
from serving.pipeline import compose, recommend, shed, show
from serving.wiring import Proxy
from tests.serving.small_world import NOW, SmallWorld, ask


class FailingStore(MemoryStore):
    """A store that can be switched off."""

    gone = False

    def __getattribute__(self, name: str) -> Any:
        if name in ("read", "live_rooms", "ids", "trending") and object.__getattribute__(self, "gone"):
            raise StoreUnavailable("the store does not answer")
        return object.__getattribute__(self, name)


def shown(feed: Feed) -> list[str]:
    return [item.item_id for item in feed.items]


def logged(world: SmallWorld, proxy: Proxy) -> list[s.Impression]:
    proxy.parts.impressions.step()
    records = [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]
    events = [decode(IMPRESSIONS, record.value) for record in records]
    return sorted((e for e in events if isinstance(e, s.Impression)), key=lambda e: e.position)


NO_DRAWS = FeedConfig(bootstrap=BootstrapConfig(share=0.0))


def test_without_a_release_and_without_draws_the_feed_is_what_trends(world: SmallWorld) -> None:
    feed = ask(world.proxy(config=NO_DRAWS), limit=5, diversity=0.0, request_id="q2")
    assert feed.degraded == ("model_unavailable",)
    assert (feed.release, feed.model_version) == ("none", None)
    assert shown(feed)[:4] == ["m0", "m1", "m2", "m3"]
    assert feed.items[0].score == 100.0
    assert feed.items[0].scores == {}


def test_before_the_first_release_most_places_are_drawn_and_say_so(world: SmallWorld) -> None:
    proxy = world.proxy()
    sources = [item.source for number in range(40) for item in ask(proxy, limit=5, request_id=f"q{number}").items]
    assert len(sources) == 200
    assert 0.7 < sources.count("explore") / 200 < 0.9


def test_with_a_release_the_order_is_the_formulas(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    feed = ask(proxy, limit=10, diversity=0.0, user_id="u1")
    assert feed.degraded == ()
    assert (feed.release, feed.model_version, feed.arm) == ("demo-1", 1, "stable")
    for item in feed.items:
        assert item.score == pytest.approx(sum(item.scores.values()))
        assert set(item.scores) == {"click", "completion", "like"}


def test_a_warm_viewers_feed_is_in_the_order_of_the_models_scores(world: SmallWorld) -> None:
    world.release()
    world.plays("u1", "m29")
    feed = ask(world.proxy(), limit=10, diversity=0.0)
    for kind in s.ContentType:  # among types, the preferred one is lifted
        scores = [item.score for item in feed.items[:9] if item.content_type == kind]
        assert scores == sorted(scores, reverse=True)
    by_cap: dict[str, int] = {}
    for item in feed.items:
        by_cap[item.creator_id] = by_cap.get(item.creator_id, 0) + 1
    assert max(by_cap.values()) <= 3


def test_a_viewer_nobody_knows_gets_what_trends_mixed_with_the_models_answer(world: SmallWorld) -> None:
    world.release()
    world.store.set_trending("home:ALL", {"m28": 100.0})
    cold = ask(world.proxy(), user_id="never seen", limit=10, diversity=0.0)
    world.plays("warm", "m3")
    warm = ask(world.proxy(), user_id="warm", limit=10, diversity=0.0)
    assert "m28" in shown(cold)[:3]
    assert "m28" not in shown(warm)[:3]
    assert len(cold.items) == 10


def test_only_rooms_that_are_live_now_are_shown(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    assert {"r0", "r1", "r2"} <= set(shown(ask(proxy, limit=30)))
    world.store.set_room("r1", lease_until=NOW)
    late = NOW + FRESH_S + 0.1  # so long after the proxy's last look the page's rooms are asked for again
    assert {"r0", "r2"} == {one for one in shown(ask(proxy, limit=30, now=late)) if one.startswith("r")}
    later = ask(proxy, limit=30, now=NOW + 91)
    assert not [one for one in shown(later) if one.startswith("r")]


def test_a_room_that_ended_is_gone_with_the_next_look_at_the_store_whatever_a_request_is_under_way_with(
    world: SmallWorld,
) -> None:
    world.release()
    proxy = world.proxy()
    attempt = Attempt(proxy.parts, proxy.parts.assign("u1"))
    request = FeedRequest(request_id="q", user_id="u1", now=NOW, limit=30)
    composed = compose(request, attempt)
    world.store.set_room("r1", lease_until=NOW)
    proxy.parts.background.follow()
    world.store.leases = not_asked  # type: ignore[method-assign]
    assert {"r0", "r2"} == {one for one in shown(show(composed, request)) if one.startswith("r")}


def not_asked(_: object) -> list[float | None]:
    raise AssertionError("the leases were read again right after a look at the store")


def test_what_was_seen_blocked_hidden_or_removed_is_left_out(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    world.plays("u1", "m1")
    world.tell(s.ViewerProfile(event_id=world.name(), event_at=utc(NOW), user_id="u1", blocked_creators=("c2", "h0")))
    world.tell(s.MediaRemoved(event_id=world.name(), event_at=utc(NOW), item_id="m3"))
    world.tell(s.MediaHidden(event_id=world.name(), event_at=utc(NOW), item_id="m4"))
    proxy.parts.background.follow()
    got = set(shown(ask(proxy, limit=100)))
    assert not got & {"m1", "m2", "m12", "m22", "r0", "m3", "m4"}
    assert len(got) == 30 + 3 - 7


def test_one_content_type_can_be_asked_for(world: SmallWorld) -> None:
    world.release()
    for kind in s.ContentType:
        feed = ask(world.proxy(), limit=100, content_type=kind)
        assert {item.content_type for item in feed.items} == {str(kind)}


def test_a_followed_host_who_is_live_comes_as_followed(world: SmallWorld) -> None:
    world.release()
    world.tell(
        s.StreamerFollowed(event_id=world.name(), event_at=utc(NOW - 9), user_id="u1", room_id="r2", streamer_id="h2")
    )
    feed = ask(world.proxy(), limit=30)
    assert {item.item_id: item.source for item in feed.items}["r2"] == "followed"
    assert {item.item_id: item.source for item in feed.items}["r1"] == "live"


def test_media_that_the_index_lacks_is_retrieved_through_its_content(world: SmallWorld) -> None:
    world.release(items=[f"m{n}" for n in range(20)])
    world.publish("brand-new", creator="c99", category="talk")
    feed = ask(world.proxy(), limit=100)
    sources = {item.item_id: item.source for item in feed.items}
    assert sources["brand-new"] == "fresh"
    assert sources["m0"] == "two_tower"


def test_near_the_item_being_played_come_similar_ones_but_not_itself(world: SmallWorld) -> None:
    world.release()
    feed = ask(world.proxy(), limit=100, surface=s.Surface.PLAYBACK, context_item_id="m4")
    sources = {item.item_id: item.source for item in feed.items}
    assert "m4" not in sources
    assert {one for one, source in sources.items() if source == "similar"} >= {"m1", "m7", "m10"}


def test_an_item_in_no_table_cannot_be_the_context(world: SmallWorld) -> None:
    with pytest.raises(UnknownItem, match=r"^context_item_id='m99' is in no table; allowed is .*$"):
        ask(world.proxy(), context_item_id="m99")


def test_a_context_published_a_moment_ago_is_known(world: SmallWorld) -> None:
    proxy = world.proxy()
    world.publish("just-now", creator="c1")
    assert len(ask(proxy, context_item_id="just-now").items) == 20


def test_impressions_carry_the_very_values_that_the_ranker_saw(world: SmallWorld) -> None:
    world.release()
    world.plays("u1", "m3")
    proxy = world.proxy()
    feed = ask(proxy, limit=8)
    impressions = logged(world, proxy)
    assert [i.item_id for i in impressions] == shown(feed)
    known = read_known(world.store, "u1", shown(feed), now=NOW)
    for place, (impression, one) in enumerate(zip(impressions, known, strict=True)):
        expected = snapshot("u1", impression.item_id, one, now=NOW, surface=s.Surface.HOME)
        assert impression.features == msgspec.json.decode(msgspec.json.encode(expected))
        assert impression.event_id == f"q1:{place}"
        assert impression.event_at == utc(NOW)
        assert (impression.release, impression.model_version, impression.arm) == ("demo-1", 1, "stable")
        assert impression.scores == pytest.approx(feed.items[place].scores)
        assert impression.source == feed.items[place].source


def test_impressions_without_a_model_have_features_but_no_scores(world: SmallWorld) -> None:
    proxy = world.proxy()
    ask(proxy, limit=4)
    impressions = logged(world, proxy)
    assert len(impressions) == 4
    assert all(i.scores is None and i.features and i.features["item.category"] for i in impressions)


def test_new_events_change_the_next_feed(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    before = shown(ask(proxy, limit=5))
    world.plays("u1", before[0] if before[0].startswith("m") else "m0")
    assert shown(ask(proxy, limit=5)) != before


def test_a_model_server_that_is_gone_means_what_trends(world: SmallWorld) -> None:
    world.release()
    proxy = world.proxy()
    world.models.down = True
    feed = ask(proxy, limit=3, diversity=0.0)
    assert feed.degraded == ("model_unavailable",)
    assert shown(feed)[:2] == ["m0", "m1"]
    assert (feed.release, feed.model_version) == ("demo-1", None)
    world.models.down = False
    assert ask(proxy, limit=3).degraded == ()


def test_a_store_that_is_gone_means_what_was_last_known(tmp_path: Any) -> None:
    store = FailingStore()
    world = SmallWorld(tmp_path, store=store).fill()
    world.release()
    world.plays("u1", "m1")
    proxy = world.proxy()
    before = ask(proxy, limit=10)
    store.gone = True
    proxy.parts.background.tick()
    feed = ask(proxy, limit=10)
    assert feed.degraded == ("features_unavailable",)
    assert shown(feed) == shown(before)
    assert "m1" not in shown(feed)
    assert not [one for one in shown(ask(proxy, limit=30, now=NOW + 91)) if one.startswith("r")]
    assert proxy.parts.background.store_trouble == "the store does not answer"


def test_a_model_server_that_keeps_failing_is_left_alone_for_a_moment(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.release()
    proxy = world.proxy()
    world.models.down = True
    at = [1000.0]
    monkeypatch.setattr("serving.breaker.time.monotonic", lambda: at[0])
    before = world.models.calls
    for _ in range(10):
        assert ask(proxy).degraded == ("model_unavailable",)
    assert world.models.calls - before == 3
    world.models.down = False
    assert ask(proxy).degraded == ("model_unavailable",)
    at[0] += 0.6
    assert ask(proxy).degraded == ()


def test_an_empty_catalogue_gives_an_empty_feed_that_says_so(tmp_path: Any) -> None:
    world = SmallWorld(tmp_path)
    feed = ask(world.proxy())
    assert feed.items == ()
    assert feed.degraded == ("model_unavailable", "no_candidates")


def everything_logged(world: SmallWorld, proxy: Proxy) -> list[s.Event]:
    proxy.parts.impressions.step()
    records = [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]
    return [decode(IMPRESSIONS, record.value) for record in records]


def test_a_feed_with_nothing_to_show_is_logged_once_as_such(tmp_path: Any) -> None:
    world = SmallWorld(tmp_path)
    proxy = world.proxy()
    ask(proxy, request_id="q7")
    (found,) = everything_logged(world, proxy)
    assert found == s.EmptyFeed(event_id="q7:empty", event_at=utc(NOW), request_id="q7", user_id="u1")


def test_a_feed_read_to_its_end_was_answered(tmp_path: Any) -> None:
    world = SmallWorld(tmp_path)
    proxy = world.proxy()
    ask(proxy, session=Session(session_id="s", offset=20, shown=20, release="none"))
    assert everything_logged(world, proxy) == []


def test_an_item_with_events_but_never_published_is_not_shown(world: SmallWorld) -> None:
    world.plays("u2", "ghost")
    world.store.set_trending("home:ALL", {"ghost": 1000.0})
    assert "ghost" in world.store.ids(Entity.ITEM)
    assert "ghost" not in shown(ask(world.proxy(), limit=100))


def test_no_more_than_the_quotas_are_ranked(world: SmallWorld) -> None:
    world.release()
    quotas = Quotas(followed=1, live=1, two_tower=3, similar=1, fresh=1, trending=2, total=6)
    feed = ask(world.proxy(config=FeedConfig(quotas=quotas)), limit=100)
    sources = [item.source for item in feed.items]
    assert len(sources) == len(set(shown(feed))) == 6
    assert {name: sources.count(name) for name in set(sources)} == {"live": 1, "two_tower": 3, "trending": 2}


def test_a_request_uses_one_release_from_start_to_end(world: SmallWorld) -> None:
    world.release(1)
    proxy = world.proxy()
    world.release(2)
    assert ask(proxy).release == "demo-1"
    proxy.parts.background.tick()
    assert ask(proxy).release == "demo-2"


@pytest.mark.parametrize("released", [True, False])
def test_an_answer_that_asks_nobody_shows_no_rooms_once_the_last_look_is_old_unless_the_store_is_gone(
    world: SmallWorld, released: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if released:
        world.release()
    proxy = world.proxy()
    request = FeedRequest(request_id="q", user_id="u1", now=NOW, limit=30)

    def rooms(make: Callable[[FeedRequest, FeedParts], Feed]) -> int:
        return sum(item.live for item in make(request, proxy.parts).items)

    def unread(user_id: str) -> OfViewer:
        raise StoreUnavailable("the store was slow")

    def hydrate_fails(request: FeedRequest, parts: FeedParts) -> Feed:
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "of_viewer", unread)
            patch.setattr(proxy.parts.store_breaker, "failed", lambda _: None)  # closed again by the prober
            return recommend(request, parts)

    assert rooms(shed) and rooms(hydrate_fails)
    view = proxy.parts.catalogue.view
    proxy.parts.catalogue.view = replace(view, refreshed=view.refreshed - 5.0)
    assert (rooms(shed), rooms(hydrate_fails)) == (0, 0)
    assert len(shed(request, proxy.parts).items) >= 10
    proxy.parts.store_breaker.failed("the store is gone")
    assert rooms(shed)  # nobody can tell: their leases hold


def test_what_was_laid_out_again_before_the_first_release_has_no_known_odds(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = world.proxy(config=FeedConfig(bootstrap=BootstrapConfig(share=0.8, live=0.9)))
    view = proxy.parts.catalogue.view
    proxy.parts.catalogue.view = replace(view, refreshed=view.refreshed - 5.0)
    monkeypatch.setattr(world.store, "leases", lambda rooms: [None] * len(rooms))  # all have ended meanwhile
    assert ask(proxy, limit=10).items
    logged = [decode(IMPRESSIONS, one.value) for one in sent(proxy, world)]
    assert {one.propensity for one in logged if isinstance(one, s.Impression)} == {None}


def sent(proxy: Proxy, world: SmallWorld) -> list[Record]:
    proxy.parts.impressions.step()
    return [record for lane in world.log.records.values() for record in lane if record.topic == IMPRESSIONS]


def test_a_locale_counts_for_a_viewer_whose_profile_names_no_language_and_for_nobody_else(world: SmallWorld) -> None:
    world.tell(
        s.MediaPublished(
            event_id="pt", event_at=utc(NOW - 1e6), item_id="zz", creator_id="c9", content_type="VIDEO", category="music",
            title="", language="pt", duration_s=60.0,
        )
    )  # fmt: skip
    proxy = world.proxy(config=replace(NO_DRAWS, arrange=replace(NO_DRAWS.arrange, language=1.0)))
    first = {
        locale: shown(ask(proxy, "new", diversity=0.0, locale=locale))[0] for locale in (None, "pt-BR", "pt", "xx")
    }
    assert (first["pt-BR"], first["pt"]) == ("zz", "zz")
    assert "zz" not in (first[None], first["xx"])
    profile = s.ViewerProfile(event_id="de", event_at=utc(NOW), user_id="new", language="de")
    world.tell(profile)
    assert shown(ask(proxy, "new", diversity=0.0, locale="pt-BR"))[0] == first[None]


def test_without_a_model_a_kind_that_is_rare_among_the_newest_is_still_found(world: SmallWorld) -> None:
    world.publish("old-song", creator="c9", kind="AUDIO", at=NOW - 1e6)
    few = Quotas(total=3)
    for number in range(40):
        world.publish(f"film-{number}", creator="c8", at=NOW - 10 + number / 100)
    feed = ask(world.proxy(config=replace(NO_DRAWS, quotas=few)), content_type=s.ContentType.AUDIO)
    assert "old-song" in shown(feed)
