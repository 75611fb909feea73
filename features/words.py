"""Aggregates about words: what kinds of things a viewer starts, how they please her, and counts by a word of the event."""

import heapq
import zlib
from dataclasses import dataclass
from functools import lru_cache

from features.aggregates import Contribution, Look, State, drop_old, look_nowhere


@dataclass(frozen=True)
class Top:
    """The `size` words with the largest sum of weights over a window; an item's words are its attribute `word`.

    State: {bucket: {item key: sum}}.
    """

    size: int
    window_s: float
    word: str
    bucket_s: float = 86_400.0

    def zero(self) -> State:
        """No buckets."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add the weight to the item in its bucket."""
        bucket = int(at // self.bucket_s)
        items = state.get(bucket)
        if items is None:
            items = state[bucket] = {}
            drop_old(state, int(self.window_s / self.bucket_s))
        items[what.key] = items.get(what.key, 0) + what.weight
        return state

    def merge(self, left: State, right: State) -> State:
        """Bucket by bucket, item by item."""
        out = {bucket: dict(items) for bucket, items in left.items()}
        for bucket, items in right.items():
            into = out.setdefault(bucket, {})
            for key, amount in items.items():
                into[key] = into.get(key, 0) + amount
        return out

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> list[str]:
        """Words by falling sum, ties by name."""
        last = int(now // self.bucket_s)
        first = last - int(self.window_s / self.bucket_s)
        totals: dict[str, float] = {}
        for bucket, items in state.items():
            if first < bucket <= last:
                for key, amount in items.items():
                    found = look(key).get(self.word)
                    for word in (found,) if isinstance(found, str) else found or ():
                        totals[word] = totals.get(word, 0) + amount
        return [word for _, word in sorted([(-total, word) for word, total in totals.items()])[: self.size]]


@dataclass(frozen=True)
class Affinity:
    """A shrunk ratio by word, over a fair sample of `size` items; an item's words are its attribute `word`.

    Of more items the `size` with the smallest hash stay (bottom-k sampling): which ones depends on the items alone, never on
    their order, so partitions merge exactly and the ratios stay unbiased. State: {item key: [num, den]}.
    """

    size: int
    word: str
    prior: tuple[float, float] = (0.0, 1.0)

    def zero(self) -> State:
        """No items."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add both parts to the item."""
        held = state.get(what.key)
        if held is not None:
            held[0] += what.weight
            held[1] += what.den
            return state
        state[what.key] = [what.weight, what.den]
        if len(state) > self.size:
            del state[max(state, key=sample_rank)]
        return state

    def merge(self, left: State, right: State) -> State:
        """Item by item."""
        out = {key: list(parts) for key, parts in left.items()}
        for key, (num, den) in right.items():
            have = out.get(key, (0, 0))
            out[key] = [have[0] + num, have[1] + den]
        if len(out) <= self.size:
            return out
        return {key: out[key] for key in heapq.nsmallest(self.size, out, key=sample_rank)}

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> dict[str, float]:
        """The shrunk ratio of every word met."""
        nums, dens = dict[str, float](), dict[str, float]()
        for key, (num, den) in state.items():
            found = look(key).get(self.word)
            for word in (found,) if isinstance(found, str) else found or ():
                nums[word] = nums.get(word, 0.0) + num
                dens[word] = dens.get(word, 0.0) + den
        more, most = self.prior
        return {word: (num + more) / (dens[word] + most) for word, num in nums.items()}


@dataclass(frozen=True)
class Counts:
    """Sums of weights by words that the event itself names, at most `size` of them (as Affinity's). State: {word: sum}."""

    size: int

    def zero(self) -> State:
        """No words."""
        return {}

    def add(self, state: State, at: float, what: Contribution) -> State:
        """Add the weight to the word."""
        state[what.key] = state.get(what.key, 0) + what.weight
        if len(state) > self.size:
            del state[max(state, key=sample_rank)]
        return state

    def merge(self, left: State, right: State) -> State:
        """Word by word."""
        out = dict(left)
        for word, amount in right.items():
            out[word] = out.get(word, 0) + amount
        if len(out) <= self.size:
            return out
        return {word: out[word] for word in heapq.nsmallest(self.size, out, key=sample_rank)}

    def finish(self, state: State, now: float, look: Look = look_nowhere) -> dict[str, float]:
        """The sum of every word met."""
        return {word: float(amount) for word, amount in state.items()}


@lru_cache(maxsize=1 << 17)
def sample_rank(key: str) -> tuple[int, str]:
    """Place of a key in the fixed random order of bottom-k samples: CRC-32 of its UTF-8 bytes, then the key."""
    return zlib.crc32(key.encode()), key
