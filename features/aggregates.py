"""The small declared set of aggregates: how a feature's state takes an event, merges with another partition's, and ends.

States are plain lists and dicts (msgpack-able). `merge` makes them safe to keep per source partition: two writers never
share a record, the reader merges. What a state holds never depends on the order of arrival, also where its size is bounded;
so a value as of `now`, any time not before the newest event, is the same however the events came.

Windows run over event-time buckets of `bucket_s`; a value at `now` counts the bucket of `now` and the
`window / bucket - 1` before it, so the window's far edge is exact to one bucket. Words about things (category, tags) are
looked up when a value is read: an event may come before the publication of what it is about.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

State = Any  # plain list / dict / None, owned by the aggregate that made it
# Attributes by name (`category`, `tags`, `content_type`) of an item key; empty where nothing is known.
Look = Callable[[str], Mapping[str, Any]]
NOTHING: Mapping[str, Any] = {}


def look_nowhere(key: str) -> Mapping[str, Any]:
    """A Look that knows nothing."""
    return NOTHING


class Contribution(NamedTuple):
    """What one event adds to one feature: weights, an id or word (`key`), or a value to hold."""

    weight: float = 0.0
    den: float = 0.0
    key: str | None = None
    value: Any = None


class Aggregate(Protocol):
    """Folds contributions into a state and a state into a value."""

    def zero(self) -> State:
        """The state before any event."""
        ...

    def add(self, state: State, at: float, what: Contribution) -> State:
        """The state after an event at epoch second `at`; may reuse `state`."""
        ...

    def merge(self, left: State, right: State) -> State:
        """The state of both partitions' events together; neither argument is changed."""
        ...

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> Any:
        """The feature's value as of `now`; None where there is nothing to say. `look` finds words about item keys."""
        ...


@dataclass(frozen=True)
class Sum:
    """Sum of weights, over a window or for ever (`window_s` None). State: {bucket: sum}; bucket 0 when for ever."""

    window_s: float | None = None
    bucket_s: float = 60.0

    def zero(self) -> State:
        """No buckets."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add the weight to its bucket and drop buckets that left the window of the newest."""
        if self.window_s is None:
            state[0] = state.get(0, 0) + what.weight
            return state
        bucket = int(at // self.bucket_s)
        state[bucket] = state.get(bucket, 0) + what.weight
        if len(state) > self.window_s / self.bucket_s:
            drop_old(state, int(self.window_s / self.bucket_s))
        return state

    def merge(self, left: State, right: State) -> State:
        """Bucket by bucket."""
        out = dict(left)
        for bucket, amount in right.items():
            out[bucket] = out.get(bucket, 0) + amount
        return out

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> float:
        """The sum inside the window as of `now`."""
        if self.window_s is None:
            return float(sum(state.values()))
        last = int(now // self.bucket_s)
        first = last - int(self.window_s / self.bucket_s)
        return float(sum(amount for bucket, amount in state.items() if first < bucket <= last))


@dataclass(frozen=True)
class Ratio:
    """Sum of weights over sum of denominators for ever, shrunk to `prior` = (weight, denominator). State: [num, den]."""

    prior: tuple[float, float] = (0.0, 0.0)

    def zero(self) -> State:
        """Nothing seen."""
        return [0, 0]

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add both parts."""
        return [state[0] + what.weight, state[1] + what.den]

    def merge(self, left: State, right: State) -> State:
        """Part by part."""
        return [left[0] + right[0], left[1] + right[1]]

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> float | None:
        """The shrunk ratio; None when the denominator is zero."""
        den = state[1] + self.prior[1]
        return None if den <= 0 else float((state[0] + self.prior[0]) / den)


SEPARATOR = "\x1f"  # no word has it, so no two lists are one text


def tie_text(value: Any) -> str:
    """What decides between two values of one instant: words as they are, lists joined by SEPARATOR (in Spark too)."""
    return SEPARATOR.join(value) if isinstance(value, (list, tuple)) else str(value)


@dataclass(frozen=True)
class Last:
    """The value with the latest event time (equal times: the greater by text, so that order of arrival does not matter)."""

    def zero(self) -> State:
        """Nothing held."""
        return None

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Hold the newer."""
        return self.merge(state, [at, what.value])

    def merge(self, left: State, right: State) -> State:
        """The newer of the two."""
        if left is None or right is None:
            return right if left is None else left
        if left[0] != right[0]:
            return left if left[0] > right[0] else right
        return left if tie_text(left[1]) >= tie_text(right[1]) else right

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> Any:
        """The value held."""
        return None if state is None else state[1]


@dataclass(frozen=True)
class Recent:
    """The last `size` distinct ids by event time, newest first, no older than `window_s`. State: [[at, id], ...]."""

    size: int
    window_s: float | None = None

    def zero(self) -> State:
        """Empty list."""
        return []

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Put the id at its time, once; in event-time order, the usual case, nothing is sorted."""
        if state and at <= state[0][0]:
            return self.merge(state, [[at, what.key]])
        return [[at, what.key], *(held for held in state if held[1] != what.key)][: self.size]

    def merge(self, left: State, right: State) -> State:
        """The newest `size` of both."""
        newest: dict[str, float] = {}
        for at, key in (*left, *right):
            newest[key] = max(at, newest.get(key, at))
        ranked = sorted(newest.items(), key=lambda pair: (-pair[1], pair[0]))
        return [[at, key] for key, at in ranked[: self.size]]

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> list[str]:
        """Ids, newest first."""
        oldest = float("-inf") if self.window_s is None else now - self.window_s
        return [key for at, key in state if at >= oldest]


@dataclass(frozen=True)
class Sessions:
    """Mean length in seconds of sessions: events no more than `gap_s` apart. State: [[first at, last at], ...], newest last.

    A session counts while its last event is at most `window_s` old. Its length runs from first to last event.
    """

    gap_s: float
    window_s: float

    def zero(self) -> State:
        """No session."""
        return []

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Lengthen the session the event belongs to, join two that it bridges, or begin one."""
        if state and state[-1][0] <= at <= state[-1][1] + self.gap_s:  # the usual case: the session that runs
            if at > state[-1][1]:
                state[-1][1] = at
            return state
        return self._united([*state, [at, at]])

    def merge(self, left: State, right: State) -> State:
        """The sessions of both partitions' events together."""
        return self._united([list(one) for one in (*left, *right)])

    def _united(self, pieces: list[list[float]]) -> State:
        pieces.sort()
        out = pieces[:1]
        for piece in pieces[1:]:
            if piece[0] <= out[-1][1] + self.gap_s:
                out[-1][1] = max(out[-1][1], piece[1])
            else:
                out.append(piece)
        # One gap more than the window: an event that is still to come may join what has just left it.
        oldest = (out[-1][1] if out else 0.0) - self.window_s - self.gap_s
        return [piece for piece in out if piece[1] >= oldest]

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> float | None:
        """Mean seconds from a session's first to its last event; None without a session in the window."""
        lengths = [last - first for first, last in state if last >= now - self.window_s]
        return sum(lengths) / len(lengths) if lengths else None


def drop_old(state: dict[int, Any], buckets: int) -> None:
    """Leave the newest bucket and the `buckets - 1` before it."""
    oldest = max(state) - buckets
    for old in [bucket for bucket in state if bucket <= oldest]:
        del state[old]


def _later(left: State, right: State) -> State:
    """The newer of two words on one viewer; at the same instant leaving counts, whichever arrived first."""
    return max(left, right, key=lambda held: (held[0], -held[1]))


@dataclass(frozen=True)
class Present:
    """How many distinct ids are present: seen within `lease_s` and not gone since. State: {id: [at, 1 here / 0 gone]}."""

    lease_s: float

    def zero(self) -> State:
        """Nobody."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Weight above zero: here; else gone. Whoever outstayed two leases is forgotten."""
        here = [at, 1.0 if what.weight > 0 else 0.0]
        state[what.key] = _later(state[what.key], here) if what.key in state else here
        size = len(state)
        if size > 64 and size & (size - 1) == 0:  # at each doubling: a full room is not searched at every event
            oldest = max(seen for seen, _ in state.values()) - 2 * self.lease_s
            for gone in [who for who, (seen, _) in state.items() if seen < oldest]:
                del state[gone]
        return state

    def merge(self, left: State, right: State) -> State:
        """The newer word on each id."""
        out = dict(left)
        for who, held in right.items():
            out[who] = _later(out[who], held) if who in out else held
        return out

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> float:
        """How many hold a lease as of `now`."""
        return float(sum(1 for at, here in state.values() if here and at > now - self.lease_s))
