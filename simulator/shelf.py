"""What is on at a moment as columns, and every candidate's utility for a viewer in one sweep of arithmetic.

`simulator.taste.utility` is the definition, one thing at a time; a test holds the columns against it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.catalogue import Room, Thing
from simulator.dials import Pulls
from simulator.population import CATEGORIES, CONTENT_TYPES, LANGUAGES, STYLES, Vector, Viewer
from simulator.streams import number_of
from simulator.taste import FRESH_S, OTHER_LANGUAGE, Memory, Mood

LIVE = CONTENT_TYPES.index("LIVE")
Rows = npt.NDArray[np.int64]


class Shelf:
    """Columns of some things; all arrays are [things] unless said."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things = list(things)
        self.row: dict[str, int] = {thing.item_id: row for row, thing in enumerate(self.things)}
        self.rows_of: dict[str, list[int]] = {}  # creator -> rows
        for row, thing in enumerate(self.things):
            self.rows_of.setdefault(thing.creator_id, []).append(row)
        self.numbers = np.array([number_of(name) for name in self.row], dtype=np.int64)  # for draws
        self.kind = self._column(lambda thing: CONTENT_TYPES.index(thing.content_type)).astype(np.int64)
        self.language = self._column(lambda thing: list(LANGUAGES).index(thing.language)).astype(np.int64)
        self.quality = self._column(lambda thing: thing.quality)
        self.appeal = self._column(lambda thing: thing.appeal)
        self.from_at = self._column(lambda thing: thing.from_at)
        self.until_at = self._column(lambda thing: thing.until_at if isinstance(thing, Room) else math.inf)
        self.duration_s = self._column(lambda thing: thing.duration_s or 60.0)
        self.style = np.array([thing.style for thing in self.things]).reshape(
            len(self.things), STYLES
        )  # [things, STYLES]
        self.topics = np.zeros((len(self.things), len(CATEGORIES)))  # weights
        for row, thing in enumerate(self.things):
            for category, weight in thing.topics:
                self.topics[row, category] += weight
        self.live = np.flatnonzero(self.kind == LIVE)

    def _column(self, value: Any) -> Vector:
        return np.array([value(thing) for thing in self.things], dtype=np.float64)

    def utilities(self, viewer: Viewer, memory: Memory, at: float, *, pulls: Pulls, mood: Mood) -> Vector:
        """`taste.utility` of everything on the shelf."""
        out = self.topics @ (pulls.match * viewer.interest + mood.bonus)
        out += pulls.quality * self.quality
        out += pulls.style * math.sqrt(STYLES) * (self.style @ viewer.style)
        out += np.array([viewer.type_taste[kind] + mood.by_type.get(kind, 0.0) for kind in CONTENT_TYPES])[self.kind]
        costs = pulls.other_language * np.array([OTHER_LANGUAGE[kind] for kind in CONTENT_TYPES])[self.kind]
        out += np.where(self.language == list(LANGUAGES).index(viewer.language), 0.0, costs)
        fresh = pulls.fresh * np.exp(-np.maximum(at - self.from_at, 0.0) / FRESH_S)
        out += np.where(self.kind == LIVE, pulls.live, fresh)
        self._add_the_past(out, memory, at, pulls)
        for row in self.live.tolist():
            room = self.things[row]
            if isinstance(room, Room):
                out[row] += room.lift(at) + mood.by_status.get(room.doing(at), 0.0)
        return out

    def _add_the_past(self, out: Vector, memory: Memory, at: float, pulls: Pulls) -> None:
        """What she watched, follows and has played."""
        for creator in memory.watches:
            for row in self.rows_of.get(creator, ()):
                again = pulls.repeat_live if self.kind[row] == LIVE else pulls.repeat_media
                out[row] += min(again * math.log1p(memory.watched(creator, at)), pulls.repeat_most)
        for creator in memory.follows:
            out[self.rows_of.get(creator, [])] += pulls.followed
        played = [self.row[item] for item in memory.seen if item in self.row]
        out[played] -= pulls.seen
