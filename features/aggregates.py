"""The small declared set of aggregates: how a feature's state takes an event, merges with another partition's, and ends.

States are plain lists and dicts (msgpack-able). `merge` makes them safe to keep per source partition: two writers never
share a record, the reader merges. Windows run over event-time buckets of `bucket_s`; a value at `now` counts the bucket of
`now` and the `window / bucket - 1` before it, so the window's far edge is exact to one bucket.
"""

from dataclasses import dataclass
from typing import Any, Protocol

State = Any  # plain list / dict / None, owned by the aggregate that made it


@dataclass(frozen=True)
class Contribution:
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

    def finish(self, state: State, now: float) -> Any:
        """The feature's value as of `now`; None where there is nothing to say."""
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
        bucket = 0 if self.window_s is None else int(at // self.bucket_s)
        state[bucket] = state.get(bucket, 0.0) + what.weight
        if self.window_s is not None and len(state) > self.window_s / self.bucket_s:
            oldest = max(state) - int(self.window_s / self.bucket_s)
            for old in [b for b in state if b <= oldest]:
                del state[old]
        return state

    def merge(self, left: State, right: State) -> State:
        """Bucket by bucket."""
        out = dict(left)
        for bucket, amount in right.items():
            out[bucket] = out.get(bucket, 0.0) + amount
        return out

    def finish(self, state: State, now: float) -> float:
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
        return [0.0, 0.0]

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add both parts."""
        return [state[0] + what.weight, state[1] + what.den]

    def merge(self, left: State, right: State) -> State:
        """Part by part."""
        return [left[0] + right[0], left[1] + right[1]]

    def finish(self, state: State, now: float) -> float | None:
        """The shrunk ratio; None when the denominator is zero."""
        den = state[1] + self.prior[1]
        return None if den <= 0 else float((state[0] + self.prior[0]) / den)


def tie_text(value: Any) -> str:
    """What decides between two values of one instant: words as they are, lists joined by commas (Spark does the same)."""
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)


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

    def finish(self, state: State, now: float) -> Any:
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

    def finish(self, state: State, now: float) -> list[str]:
        """Ids, newest first."""
        oldest = float("-inf") if self.window_s is None else now - self.window_s
        return [key for at, key in state if at >= oldest]


@dataclass(frozen=True)
class Top:
    """The `size` words with the largest sum of weights over a window. State: {bucket: {word: sum}}."""

    size: int
    window_s: float
    bucket_s: float = 86_400.0

    def zero(self) -> State:
        """No buckets."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add the weight to the word in its bucket."""
        bucket = int(at // self.bucket_s)
        words = state.setdefault(bucket, {})
        words[what.key] = words.get(what.key, 0.0) + what.weight
        oldest = max(state) - int(self.window_s / self.bucket_s)
        for old in [b for b in state if b <= oldest]:
            del state[old]
        return state

    def merge(self, left: State, right: State) -> State:
        """Bucket by bucket, word by word."""
        out = {bucket: dict(words) for bucket, words in left.items()}
        for bucket, words in right.items():
            into = out.setdefault(bucket, {})
            for word, amount in words.items():
                into[word] = into.get(word, 0.0) + amount
        return out

    def finish(self, state: State, now: float) -> list[str]:
        """Words by falling sum, ties by name."""
        last = int(now // self.bucket_s)
        first = last - int(self.window_s / self.bucket_s)
        totals: dict[str, float] = {}
        for bucket, words in state.items():
            if first < bucket <= last:
                for word, amount in words.items():
                    totals[word] = totals.get(word, 0.0) + amount
        return [word for word, _ in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[: self.size]]


@dataclass(frozen=True)
class Affinity:
    """A shrunk ratio by word, at most `size` words (the most often met stay). State: {word: [num, den]}."""

    size: int
    prior: tuple[float, float] = (0.0, 1.0)

    def zero(self) -> State:
        """No words."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add both parts to the word."""
        num, den = state.get(what.key, (0.0, 0.0))
        state[what.key] = [num + what.weight, den + what.den]
        return self._bounded(state)

    def merge(self, left: State, right: State) -> State:
        """Word by word."""
        out = {word: list(parts) for word, parts in left.items()}
        for word, (num, den) in right.items():
            have = out.get(word, (0.0, 0.0))
            out[word] = [have[0] + num, have[1] + den]
        return self._bounded(out)

    def _bounded(self, state: State) -> State:
        if len(state) <= self.size:
            return state
        keep = sorted(state.items(), key=lambda pair: (-pair[1][1], pair[0]))[: self.size]
        return dict(keep)

    def finish(self, state: State, now: float) -> dict[str, float]:
        """The shrunk ratio of every word met."""
        return {word: (num + self.prior[0]) / (den + self.prior[1]) for word, (num, den) in state.items()}


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
        if len(state) > 64:
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

    def finish(self, state: State, now: float) -> float:
        """How many hold a lease as of `now`."""
        return float(sum(1 for at, here in state.values() if here and at > now - self.lease_s))
