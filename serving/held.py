"""An entity's state kept in process: packed while nobody asks, its values computed once a minute while somebody does.

A state of plain dicts takes ten times its packed size, and of three million items few are candidates in any minute.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from features.aggregates import Last, Ratio, Recent, State, Sum
from features.definitions import BY_ENTITY, MINUTE, Entity, Feature
from features.state import EntityState, value, values
from features.words import Affinity, Counts, Top

WARM = 20_000  # entities whose values are kept computed, some 5 kB each
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(dict[str, Any])


def _steady(feature: Feature) -> bool:
    """Whether the feature's value can change within a minute of event time only by an event."""
    aggregate = feature.aggregate
    if isinstance(aggregate, Sum | Top):
        return aggregate.window_s is None or aggregate.bucket_s % MINUTE == 0
    return isinstance(aggregate, Ratio | Last | Affinity | Counts) or (
        isinstance(aggregate, Recent) and aggregate.window_s is None
    )


_MOVING = {entity: tuple(f for f in features if not _steady(f)) for entity, features in BY_ENTITY.items()}


class Warm:
    """Bounds how many states keep computed values: beyond `size`, those that were computed first drop theirs."""

    def __init__(self, size: int = WARM) -> None:
        self._size = size
        self._held: deque[HeldState] = deque()

    def add(self, held: "HeldState") -> None:
        """A state has computed its values and had none before; safe among threads."""
        self._held.append(held)
        if len(self._held) > self._size:
            self._held.popleft().cool()


class HeldState:
    """An entity's state whose values are computed once a minute of event time; equal to `features.state.values` at any time.

    What can change within a minute without an event is computed each time.
    """

    __slots__ = ("_entity", "_packed", "_ready", "_warm")

    def __init__(self, entity: Entity, state: EntityState, warm: Warm | None = None) -> None:
        self._entity = entity
        self._packed = _ENCODER.encode(state)
        self._warm = warm
        # The minute, the values in it, and the states of what moves.
        self._ready: tuple[int, dict[str, Any], dict[str, State]] | None = None

    @property
    def state(self) -> EntityState:
        """The state, unpacked."""
        return _DECODER.decode(self._packed)

    def values(self, now: float) -> Mapping[str, Any]:
        """Feature values as of `now`; not to be changed by the caller."""
        ready, minute = self._ready, int(now // MINUTE)
        if ready is None or ready[0] != minute:
            ready = self._compute(minute, now)
        _, held, states = ready
        moved = {f.name: value(f, states, now) for f in _MOVING[self._entity] if f.state in states}
        return held | moved if moved else held

    def _compute(self, minute: int, now: float) -> tuple[int, dict[str, Any], dict[str, State]]:
        state, was_cold = self.state, self._ready is None
        moving = {f.state: state[f.state] for f in _MOVING[self._entity] if f.state in state}
        self._ready = ready = (minute, values(self._entity, state, now), moving)
        if was_cold and self._warm is not None:
            self._warm.add(self)
        return ready

    def cool(self) -> None:
        """Drop the computed values; they are computed again when asked for."""
        self._ready = None
