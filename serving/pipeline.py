"""The request's main path: hydrate, recall, filter, rank, arrange, log. Failures degrade the answer and never fail it."""

from collections.abc import Sequence
from time import perf_counter

from events.clock import utc
from events.schema import ContentType, FeatureValue, Impression
from features.encoder import USER_TENSORS
from features.snapshot import snapshot
from serving.arrange import arrange
from serving.attempt import Attempt, FeedParts
from serving.bootstrap import explore
from serving.candidates import Candidate, Query, recall
from serving.catalogue import Item
from serving.errors import UnknownItem
from serving.feed import (
    FEATURES_UNAVAILABLE,
    MODEL_UNAVAILABLE,
    NO_CANDIDATES,
    STABLE,
    Age,
    Feed,
    FeedItem,
    FeedRequest,
    Pick,
    Scored,
)
from serving.filters import Eligibility
from serving.hydration import Viewer, age_of, known_of
from serving.models import Matrix
from serving.ranking import by_model, by_trend, score
from serving.retrieval import Retrieval

Snapshots = dict[str, dict[str, FeatureValue]]


def recommend(request: FeedRequest, parts: FeedParts) -> Feed:
    """The feed for one request; UnknownItem when `context_item_id` is in no table, and no other error."""
    attempt, retrieval, stage = Attempt(parts), parts.background.retrieval, parts.metrics.stage
    if retrieval is None:
        attempt.degraded[MODEL_UNAVAILABLE] = "no release is in traffic"
    _check_context(request, attempt)
    with stage("hydrate"):
        viewer, rules = _hydrate(request, attempt)
    with stage("recall"):
        query = Query(request, frozenset(viewer.values["follows"]), _embed(viewer, request, attempt, retrieval))
        candidates = recall(query, attempt.view, retrieval, rules, parts.config.quotas)
    with stage("rank"):
        ranked, rows = _rank(candidates, viewer, request, attempt, retrieval)
    with stage("arrange"):
        picks, items = _arrange(ranked, viewer, request, rules, attempt, bootstrap=retrieval is None)
    feed = _feed(request, picks, items, attempt, retrieval)
    with stage("log"):
        missing = [items[pick.scored.item_id] for pick in picks if pick.scored.item_id not in rows]
        rows |= _snapshots(missing, viewer, request, attempt)
        parts.impressions.put(_impressions(request, feed, picks, rows))
    parts.metrics.seconds.observe(perf_counter() - attempt.started)
    return feed


def _check_context(request: FeedRequest, attempt: Attempt) -> None:
    one, catalogue = request.context_item_id, attempt.parts.catalogue
    if one is None or one in attempt.view.items:
        return
    if not attempt.store(lambda: bool(catalogue.recheck([one])), lambda: True):
        raise UnknownItem(
            f"context_item_id={one!r} is in no table; allowed is the id of a published item or an opened room"
        )


def _hydrate(request: FeedRequest, attempt: Attempt) -> tuple[Viewer, Eligibility]:
    """The viewer, and who may be shown to her. Without the store: as last known, rooms by their own last heartbeat."""
    hydration, view, now = attempt.parts.hydration, attempt.view, request.now
    viewer = attempt.store(
        lambda: hydration.viewer(request.user_id, now), lambda: hydration.last_known(request.user_id, now)
    )
    live = attempt.store(
        lambda: hydration.live_rooms(now),
        lambda: [room.item_id for room in view.known(view.rooms) if room.live_at(now)],
    )
    rules = Eligibility.of(
        viewer.values, live, content_type=request.content_type, context_item_id=request.context_item_id
    )
    return viewer, rules


def _embed(viewer: Viewer, request: FeedRequest, attempt: Attempt, retrieval: Retrieval | None) -> Matrix | None:
    """The viewer's embedding [D]; half of the time left may be spent on it."""
    if retrieval is None:
        return None
    release = retrieval.release
    row = snapshot(viewer.user_id, "", viewer.alone(), now=request.now, surface=request.surface)
    tensors = release.encoder.encode([row], USER_TENSORS)
    models, version = attempt.parts.models, release.manifest.version
    found = attempt.model(lambda: models.embed_user(version, tensors, timeout_s=attempt.left_s() / 2))
    return None if found is None else found[0]


def _rank(
    candidates: Sequence[Candidate], viewer: Viewer, request: FeedRequest, attempt: Attempt, retrieval: Retrieval | None
) -> tuple[list[Scored], Snapshots]:
    """Scored candidates, and the feature values that the ranker saw (none when it was not asked)."""
    trending = dict(attempt.view.trending_for(request.surface, request.content_type))
    if retrieval is not None and candidates and MODEL_UNAVAILABLE not in attempt.degraded:
        rows = _snapshots([candidate.item for candidate in candidates], viewer, request, attempt)
        release, models = retrieval.release, attempt.parts.models
        scores = attempt.model(lambda: score(models, release, list(rows.values()), timeout_s=attempt.left_s()))
        if scores is not None:
            return by_model(candidates, scores, release, trending, cold=viewer.cold), rows
    return by_trend(candidates, trending), {}


def _snapshots(items: Sequence[Item], viewer: Viewer, request: FeedRequest, attempt: Attempt) -> Snapshots:
    """Feature values by item id, in order."""
    now = request.now
    creators = list(dict.fromkeys(item.creator_id for item in items))
    hydration, user_id = attempt.parts.hydration, viewer.user_id
    pairs = attempt.store(
        lambda: hydration.pairs(user_id, creators, now), lambda: hydration.last_known_pairs(user_id, creators, now)
    )
    known = known_of(viewer, items, attempt.view, pairs, now)
    return {
        item.item_id: snapshot(viewer.user_id, item.item_id, one, now=now, surface=request.surface)
        for item, one in zip(items, known, strict=True)
    }


def _arrange(
    ranked: Sequence[Scored],
    viewer: Viewer,
    request: FeedRequest,
    rules: Eligibility,
    attempt: Attempt,
    *,
    bootstrap: bool,
) -> tuple[list[Pick], dict[str, Item]]:
    """The page; what the store has meanwhile removed or hidden is left out and the page laid out again."""
    config, gone = attempt.parts.config, set[str]()
    while True:
        dice = attempt.parts.dice(request.request_id)
        left = [one for one in ranked if one.item_id not in gone]
        picks = arrange(
            left,
            limit=request.limit,
            diversity=request.diversity,
            preferred=viewer.preferred,
            config=config.arrange,
            dice=dice,
        )
        if bootstrap:
            drawable = attempt.view.known((*attempt.view.newest, *rules.live))
            eligible = (one for one in rules.keep(drawable) if one.item_id not in gone)
            picks = explore(picks, eligible, limit=request.limit, config=config.bootstrap, dice=dice)
        ids = [pick.scored.item_id for pick in picks]
        items = _as_of_now(ids, attempt)
        found = {one for one in ids if (item := items.get(one)) is None or not rules.admits(item)}
        if not found:
            return picks, items
        gone |= found


def _as_of_now(ids: Sequence[str], attempt: Attempt) -> dict[str, Item]:
    """Those items read again; as last read where the store does not answer."""
    held = {item.item_id: item for item in attempt.view.known(ids)}
    return held | (attempt.store(lambda: attempt.parts.catalogue.recheck(ids), lambda: held) if ids else {})


def _feed(
    request: FeedRequest, picks: Sequence[Pick], items: dict[str, Item], attempt: Attempt, retrieval: Retrieval | None
) -> Feed:
    if not picks:
        attempt.degraded[NO_CANDIDATES] = "nothing may be shown"
    for reason in attempt.degraded:
        attempt.parts.metrics.degradations.labels(reason).inc()
    answered = MODEL_UNAVAILABLE not in attempt.degraded
    shown = tuple(_shown(place, pick.scored, items[pick.scored.item_id]) for place, pick in enumerate(picks))
    return Feed(
        request_id=request.request_id,
        user_id=request.user_id,
        surface=str(request.surface),
        release=retrieval.release.name if retrieval else "none",
        model_version=retrieval.release.manifest.version if retrieval and answered else None,
        arm=STABLE,
        degraded=tuple(sorted(attempt.degraded)),
        features_age=_features_age(request, attempt),
        items=shown,
    )


def _features_age(request: FeedRequest, attempt: Attempt) -> dict[str, Age | None]:
    """How old the features are that were used instead of the store's; empty when it answered."""
    gauge, view = attempt.parts.metrics.features_age.labels("viewer"), attempt.view
    if FEATURES_UNAVAILABLE not in attempt.degraded:
        gauge.set(0.0)
        return {}
    viewer = attempt.parts.hydration.age(request.user_id, request.now)
    items = None if view.as_of is None else age_of(view.as_of, view.refreshed, request.now)
    if viewer is not None:
        gauge.set(viewer.wall_s)
    return {"viewer": viewer, "items": items}


def _shown(place: int, scored: Scored, item: Item) -> FeedItem:
    return FeedItem(
        item_id=item.item_id, content_type=item.content_type, creator_id=item.creator_id, title=item.title,
        category=item.category, position=place, score=scored.score, scores=scored.scores, source=scored.source,
        live=item.is_room, status=item.status,
    )  # fmt: skip


def _impressions(request: FeedRequest, feed: Feed, picks: Sequence[Pick], rows: Snapshots) -> list[Impression]:
    """One event a shown item, with the very values the ranker saw."""
    return [
        Impression(
            event_id=f"{request.request_id}:{item.position}",
            event_at=utc(request.now),
            request_id=request.request_id,
            user_id=request.user_id,
            item_id=item.item_id,
            content_type=ContentType(item.content_type),
            creator_id=item.creator_id,
            position=item.position,
            surface=request.surface,
            release=feed.release,
            model_version=feed.model_version,
            arm=feed.arm,
            source=item.source,
            propensity=pick.propensity,
            scores=item.scores or None,
            features=rows[item.item_id],
        )
        for item, pick in zip(feed.items, picks, strict=True)
    ]
