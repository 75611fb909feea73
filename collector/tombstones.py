"""Who was erased, as the intake asks: her events are dropped before anything is made of them, whenever they were sent.

An event of her, of her items or of her rooms is dropped; an event of somebody else that names her in a list goes on without
the name. `profile_erased` itself is stored until she is erased: its row is the order that `livefeed events forget --pending`
carries out. From then on it is dropped too, so that reading the log again brings back nothing.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from events.clock import Clock, utc
from events.schema import Event, FeatureValue, Impression, ProfileErased, ViewerProfile
from features.erased import ASKED, ERASED, NAMES_A_PERSON, ErasedPeople
from features.mentions import STAND_IN

REFRESH_S = 1.0  # wall seconds; until then an event is still taken, and the offline commit leaves its row out


class Tombstones:
    """The tombstones of a lake, looked at again every second."""

    def __init__(self, people: ErasedPeople, *, clock: Clock, refresh_s: float = REFRESH_S) -> None:
        self._people, self._clock, self._refresh_s = people, clock, refresh_s
        self._looked_at = float("-inf")

    def refresh_if_due(self) -> bool:
        """Look at the table again when it is time; whether somebody is new in it. TablesUnavailable."""
        now = self._clock.now()
        if abs(now - self._looked_at) < self._refresh_s:  # abs: a clock set back must not stop it
            return False
        self._looked_at = now
        return self._people.refresh()

    def note(self, event: Event) -> bool:
        """Write the tombstone that a `profile_erased` asks for; whether it was new. TablesUnavailable."""
        if not isinstance(event, ProfileErased):
            return False
        return self._people.add(event.user_id, ASKED, at=utc(self._clock.now()))

    def is_erased(self, event: Event) -> bool:
        """Whether an event is about a person who was erased, as viewer, creator or host."""
        if not len(self._people):
            return False
        if isinstance(event, ProfileErased):
            return self._people.state(event.user_id) == ERASED
        return any(self.holds(getattr(event, name, None)) for name in NAMES_A_PERSON)

    def is_erased_key(self, key: bytes | None) -> bool:
        """Whether an unreadable message lies under her key: it is dropped, not kept as a dead letter."""
        return key is not None and self.holds(key.decode(errors="replace"))

    def holds(self, user_id: str | None) -> bool:
        """Whether a person was erased, or is about to be."""
        return user_id is not None and user_id in self._people

    def scrub(self, event: Event) -> Event:
        """The event without the names of erased people in its lists; the same object when there are none."""
        if not len(self._people):
            return event
        if isinstance(event, ViewerProfile) and any(map(self.holds, event.blocked_creators)):
            kept = tuple(one for one in event.blocked_creators if not self.holds(one))
            return msgspec.structs.replace(event, blocked_creators=kept)
        if isinstance(event, Impression) and event.features:
            clean = self._clean(event.features)
            return event if clean == event.features else msgspec.structs.replace(event, features=clean)
        return event

    def _clean(self, features: Mapping[str, FeatureValue]) -> dict[str, FeatureValue]:
        return {name: self._clean_value(value) for name, value in features.items()}

    def _clean_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return STAND_IN if self.holds(value) else value
        if isinstance(value, list):
            return [one for one in value if not self.holds(one)]
        return value
