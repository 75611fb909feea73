"""Recall: every source's candidates, filtered, merged without repeats under quotas; each keeps its first source."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from serving.catalogue import CatalogueView, Item
from serving.feed import FeedRequest
from serving.filters import Eligibility
from serving.models import Matrix
from serving.retrieval import Retrieval


@dataclass(frozen=True)
class Quotas:
    """How many candidates each source may bring, in the order they are asked; together at most `total`."""

    followed: int = 40  # rooms of hosts the viewer follows
    live: int = 100  # other rooms, nearest first
    two_tower: int = 220  # media of the index, nearest first
    similar: int = 40  # near the item being played
    fresh: int = 40  # media the index does not have yet
    trending: int = 60
    total: int = 500


class Candidate(NamedTuple):
    """An item that may be shown and the source that named it first."""

    item: Item
    source: str


class Query(NamedTuple):
    """What recall starts from; `embedding` is the viewer's, None when no model answered."""

    request: FeedRequest
    follows: frozenset[str]
    embedding: Matrix | None


def recall(
    query: Query, view: CatalogueView, retrieval: Retrieval | None, rules: Eligibility, quotas: Quotas
) -> list[Candidate]:
    """At most `quotas.total` eligible candidates; without a retrieval or an embedding only the sources that need neither."""
    sources = [("followed", _followed(query, view, rules), quotas.followed)]
    if retrieval is not None and query.embedding is not None:
        sources += _by_embedding(query, query.embedding, retrieval, rules, quotas)
    sources += [
        ("trending", _trending(query, view), quotas.trending),
        ("live", iter(sorted(rules.live)), quotas.live),
        # Newest media fill what is left: a new catalogue has no trends, and without a model nothing is nearest.
        ("fresh", iter(view.newest), quotas.fresh if query.embedding is not None else quotas.total),
    ]
    taken: dict[str, Candidate] = {}
    for source, ids, quota in sources:
        new = view.known(one for one in ids if one not in taken)
        for item in islice(rules.keep(new), min(quota, quotas.total - len(taken))):
            taken.setdefault(item.item_id, Candidate(item, source))
    return list(taken.values())


def _followed(query: Query, view: CatalogueView, rules: Eligibility) -> Iterator[str]:
    return (room.item_id for room in view.known(sorted(rules.live)) if room.creator_id in query.follows)


def _trending(query: Query, view: CatalogueView) -> Iterator[str]:
    return (one for one, _ in view.trending_for(query.request.surface, query.request.content_type))


def _by_embedding(
    query: Query, viewer: Matrix, retrieval: Retrieval, rules: Eligibility, quotas: Quotas
) -> Iterable[tuple[str, Iterator[str], int]]:
    """The sources that need the viewer's embedding. Searches ask for more by what the filters may take away."""
    spare = len(rules.seen) + 50
    allowed = retrieval.allowed(query.request.content_type)
    yield "live", iter(retrieval.rooms.search(viewer, len(retrieval.rooms.ids))), quotas.live
    near = None if query.request.context_item_id is None else retrieval.embedding_of(query.request.context_item_id)
    if near is not None:
        yield "similar", iter(retrieval.index.search(near, quotas.similar + spare, allowed=allowed)), quotas.similar
    yield "two_tower", iter(retrieval.index.search(viewer, quotas.two_tower + spare, allowed=allowed)), quotas.two_tower
    yield "fresh", iter(retrieval.fresh.search(viewer, quotas.fresh + spare)), quotas.fresh
