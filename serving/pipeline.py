"""The request's main path: hydrate, recall, filter, rank, arrange, log. Failures degrade the answer and never fail it.

`compose` does all but the last two; `show` lays out and logs a page of what it found.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from events.clock import utc
from events.schema import ContentType, EmptyFeed, Impression
from features.errors import BadUserTower
from features.user_tower import UserTower
from serving.arrange import NO_PREFERENCE, Page, Ranked, arrange
from serving.attempt import Attempt, FeedParts
from serving.bootstrap import Draw, explore
from serving.candidates import CODE, SOURCES, Query, recall
from serving.catalogue_view import Item
from serving.errors import ModelRefused, UnknownItem
from serving.feed import (
    FEATURES_UNAVAILABLE,
    MODEL_UNAVAILABLE,
    NO_CANDIDATES,
    OVERLOADED,
    Age,
    Feed,
    FeedItem,
    FeedRequest,
)
from serving.filters import Eligibility
from serving.hydration import age_of
from serving.item_columns import KIND_OF, Rows
from serving.models import Matrix, Tensors
from serving.ranking import Scores, ask_ranker, by_model, by_trend
from serving.shadow import Seen, explored_at
from serving.sides import Pool, Raw, Viewer, in_locale, logged, raw_numbers, shared_part, told

UNSEEN_S = 0.8  # a room that ended must be out of every answer within a second
_KINDS = {str(kind): kind for kind in ContentType}


@dataclass(frozen=True)
class Composed:
    """What may be shown to one viewer now, scored: `raw` is None where the ranker was not asked."""

    attempt: Attempt
    viewer: Viewer
    rules: Eligibility
    pool: Pool
    scores: Scores
    raw: Raw | None


class Laid(NamedTuple):
    """A page as drawn, and what it was laid out of and how."""

    draws: list[Draw]
    ranked: Ranked
    page: Page


def recommend(request: FeedRequest, parts: FeedParts) -> Feed:
    """The feed for one request; UnknownItem when `context_item_id` is in no table, and no other error."""
    attempt = Attempt(parts, parts.assign(request.user_id))
    composed = compose(request, attempt)
    feed = show(composed, request)
    parts.metrics.made(attempt.spent_s())
    return feed


def shed(request: FeedRequest, parts: FeedParts) -> Feed:
    """What trends, without asking anything of anyone: the answer when there is more to do than can be done."""
    attempt = Attempt(parts, parts.assign(request.user_id))
    for reason in (OVERLOADED, MODEL_UNAVAILABLE, FEATURES_UNAVAILABLE):
        attempt.degraded[reason] = "the proxy is overloaded"
    return show(compose(request, attempt), request)


def compose(request: FeedRequest, attempt: Attempt) -> Composed:
    """Hydrate, recall, filter, rank."""
    parts, stage = attempt.parts, attempt.parts.metrics.stage
    if attempt.retrieval is None:
        attempt.degraded[MODEL_UNAVAILABLE] = parts.background.releases.refused or "no release is in traffic"
    _check_context(request, attempt)
    with stage("hydrate"):
        hydration, now = parts.hydration, request.now
        viewer = attempt.store(
            lambda: hydration.viewer(request.user_id, now), lambda: hydration.last_known(request.user_id, now)
        )
    with stage("embed"):
        embedding = _embed(viewer, request, attempt)
    with stage("recall"):
        rules = Eligibility.of(viewer, request, attempt.view)
        query = Query(request, viewer, embedding)
        pool = recall(query, attempt.view, attempt.retrieval, rules, parts.config.quotas)
    parts.metrics.ranked(len(pool.rows))
    with stage("rank"):
        ranked = _rank(pool, viewer, request, attempt)
    if ranked is not None:
        return Composed(attempt, viewer, rules, pool, *ranked)
    if embedding is not None:  # what is nearest would leave little room for what trends
        with stage("recall"):
            unasked = Query(request, viewer, None)
            pool = recall(unasked, attempt.view, attempt.retrieval, rules, parts.config.quotas)
    trend = attempt.view.trending_for(request.surface, request.content_type)
    return Composed(attempt, viewer, rules, pool, by_trend(pool, trend), None)


def show(composed: Composed, request: FeedRequest) -> Feed:
    """Arrange a page, read it again from the store, log it."""
    attempt, stage = composed.attempt, composed.attempt.parts.metrics.stage
    with stage("arrange"):
        laid, items = _arrange(composed, request)
        draws = laid.draws
    with stage("log"):
        feed = _feed(request, composed, draws, items)
        if draws:
            impressions = _impressions(request, feed, composed, draws, items)
            attempt.parts.impressions.put(_left_by_shadow(impressions, request, composed, laid))
        elif request.session is None or not request.session.shown:  # a feed read to its end was answered
            attempt.parts.impressions.put([_empty(request, feed)])
    return feed


def _check_context(request: FeedRequest, attempt: Attempt) -> None:
    one, catalogue = request.context_item_id, attempt.parts.catalogue
    if one is None or one in attempt.view.items:
        return
    if not attempt.store(lambda: bool(catalogue.recheck([one])), lambda: True):
        raise UnknownItem(
            f"context_item_id={one!r} is in no table; allowed is the id of a published item or an opened room"
        )


def _embed(viewer: Viewer, request: FeedRequest, attempt: Attempt) -> Matrix | None:
    """The viewer's embedding [D]."""
    retrieval, models = attempt.retrieval, attempt.parts.models
    if retrieval is None:
        return None
    release = retrieval.release
    attempt.user_tensors = release.encode_user(shared_part(viewer, request.surface))
    version = release.manifest.version
    wanted = (1, retrieval.release.index.width)

    def ask(within_s: float) -> Matrix:
        if release.user_tower is not None:
            return _own(release.user_tower, attempt.user_tensors)
        found = models.embed_user(version, attempt.user_tensors, timeout_s=within_s)
        if found.shape != wanted:
            raise ModelRefused(
                f"release {release.name}: the two-tower gave an embedding of shape {found.shape}, not {wanted}"
            )
        return np.asarray(found[0])

    return attempt.embed(ask)


def _own(tower: UserTower, viewer: Tensors) -> Matrix:
    """By the release's own copy of the two-tower's viewer's side, in microseconds."""
    try:
        return tower.embed(viewer)
    except BadUserTower as error:
        raise ModelRefused(str(error)) from None


def _rank(pool: Pool, viewer: Viewer, request: FeedRequest, attempt: Attempt) -> tuple[Scores, Raw] | None:
    """Scored candidates, and the numbers that the ranker saw; None when it did not answer."""
    trend, retrieval = attempt.view.trending_for(request.surface, request.content_type), attempt.retrieval
    if retrieval is not None and len(pool.rows) and MODEL_UNAVAILABLE not in attempt.degraded:
        raw = raw_numbers(viewer, pool, attempt.view, request.now)
        release, models = retrieval.release, attempt.parts.models
        inputs = {**retrieval.codes.inputs(pool, raw, request.surface), **attempt.user_tensors}

        def ask(within_s: float) -> Scores:
            answers = ask_ranker(models, release, inputs, len(pool.rows), timeout_s=within_s)
            return by_model(pool, answers, release, trend, cold=viewer.cold)

        scores = attempt.rank(ask)
        if scores is not None:
            return scores, raw
    return None


def _arrange(composed: Composed, request: FeedRequest) -> tuple[Laid, dict[int, Item]]:
    """The page, and its items by row; what the store has meanwhile removed or hidden is left out and it is laid out anew."""
    attempt, rules = composed.attempt, composed.rules
    keep = np.arange(len(composed.pool.rows))
    gone: set[int] = set()
    if _may_have_ended(attempt, request.now):
        keep, gone = keep[composed.pool.kinds != KIND_OF[ContentType.LIVE]], set(attempt.view.live.tolist())
    while True:
        laid = _lay_out(composed, request, keep, gone)
        draws = laid.draws
        items = _as_of_now([draw.row for draw in draws], attempt, request.now)
        found = {draw.row for draw in draws if (item := items.get(draw.row)) is None or not rules.admits(item)}
        if not found:
            return laid, items
        gone |= found
        keep = keep[~np.isin(composed.pool.rows[keep], list(gone))]


def _lay_out(composed: Composed, request: FeedRequest, keep: Rows, gone: set[int]) -> Laid:
    attempt, pool, config = composed.attempt, composed.pool.at(keep), composed.attempt.parts.config
    dice = attempt.parts.dice(request.request_id)
    columns = attempt.view.columns
    spoken = in_locale(request.locale, composed.viewer, pool, attempt.view)
    ranked = Ranked(
        composed.scores.merit[keep], pool.kinds, pool.makers, columns.category(pool.rows), pool.rows, spoken
    )
    preferred = KIND_OF.get(composed.viewer.preferred, NO_PREFERENCE)
    page = arrange(
        ranked, limit=request.limit, diversity=request.diversity, preferred=preferred, config=config.arrange, dice=dice
    )
    first_feed = _is_first_feed(attempt)
    draws = [
        # What was drawn and then found gone was drawn for again: those odds are not known.
        Draw(
            int(pool.rows[place]), SOURCES[pool.sources[place]], int(keep[place]), None if explored and gone else odds,
            explored_at(page, at, epsilon=config.arrange.epsilon) if explored and not gone and not first_feed else None,
        )
        for at, (place, odds, explored) in enumerate(
            zip(page.places.tolist(), page.propensity.tolist(), page.explored.tolist(), strict=True)
        )
    ]  # fmt: skip
    if first_feed:
        fine = composed.rules.admit(drawable := np.concatenate([attempt.view.newest_rows, attempt.view.live]))
        left = [row for row in drawable[fine].tolist() if row not in gone]
        draws = explore(
            draws, np.array(left, np.intp), columns, limit=request.limit, config=config.bootstrap, dice=dice
        )
        draws = [draw._replace(propensity=None) for draw in draws] if gone else draws
    return Laid(draws, ranked, page)


def _left_by_shadow(
    impressions: list[Impression], request: FeedRequest, composed: Composed, laid: Laid
) -> Sequence[Impression]:
    """The impressions to log now: all of them, but for those that a release in shadow looks at first."""
    shadow = composed.attempt.parts.shadow
    experiment = None if shadow is None else shadow.experiment
    if shadow is None or experiment is None:
        return impressions
    trend = composed.attempt.view.trending_for(request.surface, request.content_type)
    seen = Seen(
        request, composed.viewer, composed.pool, composed.scores, composed.raw, trend, laid.ranked, laid.page
    )  # fmt: skip
    return shadow.take(experiment, seen, impressions)


def _is_first_feed(attempt: Attempt) -> bool:
    """Whether there was no release yet: one that is named but cannot be loaded is a fault, and what trends covers for it."""
    return (
        attempt.retrieval is None
        and OVERLOADED not in attempt.degraded
        and not attempt.parts.background.releases.refused
    )


def _may_have_ended(attempt: Attempt, now: float) -> bool:
    """Whether rooms may have ended unseen: the store answers others, but was not asked here, nor looked at lately."""
    if FEATURES_UNAVAILABLE not in attempt.degraded or attempt.parts.store_breaker.is_open:
        return False  # while it is gone nobody can tell, and a lease is what there is
    return not attempt.parts.catalogue.view.is_fresh(now, UNSEEN_S)


def _as_of_now(rows: list[int], attempt: Attempt, now: float) -> dict[int, Item]:
    """The items of those rows without the rooms that ended: as of the last look, or by their leases in the store after that.

    Media are as of the last look, a fifth of a second ago: reading a page's again cost as much as arranging it.
    """
    held = attempt.view.items_at(rows)
    rooms = {row: item for row, item in held.items() if item.is_room}
    if not rooms:
        return held
    catalogue = attempt.parts.catalogue
    if catalogue.view.is_fresh(now):
        ended = catalogue.view.ended(list(rooms), now)
        return {row: item for row, item in held.items() if row not in ended} if ended else held
    return held | attempt.store(lambda: catalogue.still_live(rooms), dict)


def _feed(request: FeedRequest, composed: Composed, draws: list[Draw], items: dict[int, Item]) -> Feed:
    attempt = composed.attempt
    if not draws:
        attempt.degraded[NO_CANDIDATES] = "nothing may be shown"
    for reason in attempt.degraded:
        attempt.parts.metrics.degradations.labels(reason).inc()
    retrieval = attempt.retrieval
    answered = MODEL_UNAVAILABLE not in attempt.degraded
    shown = tuple(_shown(place, draw, items[draw.row], composed.scores) for place, draw in enumerate(draws))
    return Feed(
        request_id=request.request_id,
        user_id=request.user_id,
        surface=str(request.surface),
        release=retrieval.release.name if retrieval else "none",
        model_version=retrieval.release.manifest.version if retrieval and answered else None,
        arm=attempt.arm.name,
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


def _shown(place: int, draw: Draw, item: Item, scores: Scores) -> FeedItem:
    ranked = draw.place
    return FeedItem(
        item_id=item.item_id, content_type=item.content_type, creator_id=item.creator_id, title=item.title,
        category=item.category, position=place, rank=place + 1,
        score=0.0 if ranked is None else float(scores.total[ranked]), scores={} if ranked is None else scores.of(ranked),
        source=draw.source, live=item.is_room, status=item.status,
    )  # fmt: skip


def _impressions(
    request: FeedRequest, feed: Feed, composed: Composed, draws: list[Draw], items: dict[int, Item]
) -> list[Impression]:
    """One event a shown item, with the very values the ranker saw."""
    numbers_of = told(_numbers_of(draws, composed, request))
    shared = shared_part(composed.viewer, request.surface)
    at = utc(request.now)
    return [
        Impression(
            event_id=f"{request.request_id}:{item.position}",
            event_at=at,
            request_id=request.request_id,
            user_id=request.user_id,
            item_id=item.item_id,
            content_type=_KINDS[item.content_type],
            creator_id=item.creator_id,
            position=item.position,
            surface=request.surface,
            release=feed.release,
            model_version=feed.model_version,
            arm=feed.arm,
            source=item.source,
            propensity=draw.propensity,
            explored=draw.explored,
            scores=item.scores or None,
            features=logged(items[draw.row], numbers, shared),
        )
        for item, draw, numbers in zip(feed.items, draws, numbers_of, strict=True)
    ]


def _empty(request: FeedRequest, feed: Feed) -> EmptyFeed:
    """The event that says that nothing could be shown."""
    return EmptyFeed(
        event_id=f"{request.request_id}:empty", event_at=utc(request.now), request_id=request.request_id,
        user_id=request.user_id, surface=request.surface, release=feed.release, arm=feed.arm,
    )  # fmt: skip


def _numbers_of(draws: list[Draw], composed: Composed, request: FeedRequest) -> Raw:
    """The numbers of what is shown, as the ranker saw them; made now where it was not asked, or the place was drawn."""
    if composed.raw is not None and all(draw.place is not None for draw in draws):
        return composed.raw[[draw.place or 0 for draw in draws]]
    view, rows = composed.attempt.view, np.array([draw.row for draw in draws], np.intp)
    pool = Pool(rows, np.full(len(rows), CODE["explore"], np.int8), view.table.makers(rows), view.columns.kind(rows))
    return raw_numbers(composed.viewer, pool, view, request.now)
