"""Recall: every source's candidates as item rows, filtered once, merged without repeats under quotas; each has the first
source that named it within its quota. A source that has nothing to start from is empty.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple

import numpy as np

from events.schema import ContentType
from serving.catalogue_view import CatalogueView
from serving.feed import FeedRequest
from serving.filters import Eligibility
from serving.item_columns import KIND_OF, Rows
from serving.loops import merged
from serving.models import Matrix
from serving.retrieval import NO_ROWS, Retrieval
from serving.sides import RECENT, Pool, Viewer, maker_rows

# In the order they are asked: what names a candidate first, within its quota, is its source. `explore` is drawn instead.
SOURCES = (
    "followed", "repeat", "live", "similar_host", "similar", "neighbour", "two_tower", "fresh", "trending", "explore",
)  # fmt: skip
CODE = {source: number for number, source in enumerate(SOURCES)}


@dataclass(frozen=True)
class Quotas:
    """How many candidates each source may bring; together at most `total`."""

    followed: int = 40  # live rooms of hosts the viewer follows
    repeat: int = 20  # live rooms of hosts she has watched before
    live: int = 100  # other rooms, nearest first
    similar_host: int = 20  # live rooms of hosts whose viewers are hers
    similar: int = 40  # near the item being played
    neighbour: int = 60  # what viewers of her recent items, and of the one being played, also chose
    two_tower: int = 300  # media, nearest first
    fresh: int = 40  # media published since the index was built, nearest first
    trending: int = 60
    total: int = 500


class Query(NamedTuple):
    """What recall starts from; `embedding` is the viewer's, None when no model answered."""

    request: FeedRequest
    viewer: Viewer
    embedding: Matrix | None


def recall(query: Query, view: CatalogueView, retrieval: Retrieval | None, rules: Eligibility, quotas: Quotas) -> Pool:
    """At most `quotas.total` eligible candidates; without a retrieval or an embedding only the sources that need neither."""
    named = list(_sources(query, view, retrieval, rules, quotas))
    rows = np.concatenate([rows for _, rows, _ in named])
    ends = np.cumsum([len(rows) for _, rows, _ in named])
    kept = merged(rows, rules.admit(rows), ends, np.array([quota for _, _, quota in named]), quotas.total)
    codes = np.array([CODE[source] for source, _, _ in named], np.int8)[np.searchsorted(ends, kept, "right")]
    rows = rows[kept]
    return Pool(rows, codes, view.table.makers(rows), view.columns.kind(rows))


def _sources(
    query: Query, view: CatalogueView, retrieval: Retrieval | None, rules: Eligibility, quotas: Quotas
) -> Iterator[tuple[str, Rows, int]]:
    """Source, rows and quota, in the order of SOURCES; a source may name more than its quota, some will be filtered."""
    wanted = query.request.content_type
    rooms = wanted in (None, ContentType.LIVE)
    if rooms and len(view.live):
        yield from _met_hosts(query, view, quotas)
    if retrieval is not None:
        yield from _by_release(query, view, retrieval, rules, quotas)
    yield "trending", view.trending_for(query.request.surface, wanted).rows, quotas.trending
    if query.embedding is None and rooms:
        yield "live", view.live, quotas.live
    if query.embedding is None and wanted is not ContentType.LIVE:
        # Newest media fill what is left: a new catalogue has no trends, and without a model nothing is nearest.
        spare, newest = quotas.total + len(rules.seen) + len(query.request.exclude), view.newest_rows
        if wanted is not None:
            newest = newest[view.columns.kind(newest) == KIND_OF[wanted]]
        yield "fresh", newest[:spare], quotas.total


def _met_hosts(query: Query, view: CatalogueView, quotas: Quotas) -> Iterator[tuple[str, Rows, int]]:
    met = query.viewer.met(view)
    yield "followed", view.rooms_of(met.follows), quotas.followed
    yield "repeat", view.rooms_of(met.paired), quotas.repeat


def _by_release(
    query: Query, view: CatalogueView, retrieval: Retrieval, rules: Eligibility, quotas: Quotas
) -> Iterator[tuple[str, Rows, int]]:
    """The sources that need a release, some also an embedding. Searches ask for more by what the filters may take away."""
    request, viewer = query.request, query.embedding
    spare = len(rules.seen) + len(request.exclude) + 20
    wanted = request.content_type
    if wanted in (None, ContentType.LIVE):
        if viewer is not None:
            yield "live", retrieval.nearest_rooms(viewer, quotas.live + spare), quotas.live
        yield "similar_host", _rooms_of_similar_hosts(query, view, retrieval), quotas.similar_host
    if wanted is ContentType.LIVE:
        return
    context = view.table.row_of.get(request.context_item_id or "")
    near = None if context is None else retrieval.embedding_of(context)
    if near is not None:
        yield "similar", retrieval.nearest_media(near, quotas.similar + spare, wanted), quotas.similar
    seeds = query.viewer.met(view).positive.tolist()
    yield "neighbour", retrieval.neighbours_of([*seeds, *([] if context is None else [context])]), quotas.neighbour
    if viewer is None:
        return
    yield "two_tower", retrieval.nearest_media(viewer, quotas.two_tower + spare, wanted), quotas.two_tower
    yield "fresh", retrieval.nearest_fresh(viewer, quotas.fresh + spare, wanted), quotas.fresh


def _rooms_of_similar_hosts(query: Query, view: CatalogueView, retrieval: Retrieval) -> Rows:
    lists = retrieval.release.neighbours
    if not len(view.live) or not lists.hosts.ids:
        return NO_ROWS
    recent = query.viewer.values["recent_positive"][:RECENT]
    recent = list(compress(recent, view.table.creators(recent).tolist()))
    return view.rooms_of(maker_rows(lists.hosts_like(recent)[0], view)) if recent else NO_ROWS
