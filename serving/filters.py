"""Who may be shown to whom: live rooms only while live, nothing hidden, blocked, played or shown on an earlier page."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from serving.catalogue_view import CatalogueView, Item
from serving.cursor import short_hash
from serving.feed import FeedRequest
from serving.item_columns import KIND_OF, LIVE, Rows
from serving.loops import ANY, admitted
from serving.sides import Viewer

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Eligibility:
    """One request's rules over one view of the catalogue."""

    view: CatalogueView
    request: FeedRequest
    viewer: Viewer
    blocked: Rows  # creators
    seen: Rows  # media already played, and the context item

    @staticmethod
    def of(viewer: Viewer, request: FeedRequest, view: CatalogueView) -> "Eligibility":
        """The rules that a viewer's feature values and the request make."""
        met, seen = viewer.met(view), viewer.met(view).seen
        context = None if request.context_item_id is None else view.table.row_of.get(request.context_item_id)
        return Eligibility(view, request, viewer, met.blocked, seen if context is None else np.append(seen, context))

    def admit(self, rows: Rows) -> Flags:
        """Whether each item may be shown."""
        request, wanted = self.request, ANY
        if request.content_type is not None:
            wanted = KIND_OF[request.content_type]
        held, seen, blocked = self.view.columns.held, self.seen, self.blocked
        fine = admitted(
            rows, held.kind, held.listed, held.lease_until, held.maker, seen, blocked, LIVE, wanted, request.now
        )
        return self._not_shown_before(rows, fine) if request.exclude else fine

    def admits(self, item: Item) -> bool:
        """Whether an item as just read from the store may be shown."""
        request, values = self.request, self.viewer.values
        if not item.shown or item.creator_id in values["blocked_creators"] or item.item_id == request.context_item_id:
            return False
        return item.live_at(request.now) if item.is_room else item.item_id not in values["seen"]

    def _not_shown_before(self, rows: Rows, fine: Flags) -> Flags:
        id_of, shown = self.view.table.id_of, self.request.exclude
        for place in np.flatnonzero(fine).tolist():
            fine[place] = short_hash(id_of[rows[place]]) not in shown
        return fine
