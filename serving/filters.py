"""Who may be shown to whom: live rooms only while live, nothing hidden, blocked or already played."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from events.schema import ContentType
from serving.catalogue import Item


@dataclass(frozen=True)
class Eligibility:
    """One request's rules."""

    live: frozenset[str]  # rooms whose lease holds now
    blocked: frozenset[str]  # creators
    seen: frozenset[str]  # media already played
    content_type: ContentType | None = None
    context_item_id: str | None = None

    @staticmethod
    def of(
        user: Mapping[str, Any],
        live: Iterable[str],
        *,
        content_type: ContentType | None = None,
        context_item_id: str | None = None,
    ) -> "Eligibility":
        """The rules that a viewer's feature values and the request make."""
        return Eligibility(
            frozenset(live), frozenset(user["blocked_creators"]), frozenset(user["seen"]), content_type, context_item_id
        )

    def admits(self, item: Item) -> bool:
        """Whether the item may be shown."""
        if self.content_type is not None and item.content_type != self.content_type:
            return False
        if item.creator_id in self.blocked or item.item_id == self.context_item_id or not item.shown:
            return False
        return item.item_id in self.live if item.is_room else item.item_id not in self.seen

    def keep(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items that may be shown, in order."""
        return (item for item in items if self.admits(item))
