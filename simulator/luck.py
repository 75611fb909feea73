"""Whose dice a viewer's page is played with: one sequence a request, or a draw of its own for each thing she meets."""

from typing import Protocol

import numpy as np

from simulator.streams import number_of, stream, uniform


class Luck(Protocol):
    """The draws of one request of one viewer."""

    def draw(self, about: str, *numbers: int) -> np.random.Generator:
        """The generator for one matter of this request."""
        ...

    def glance(self, position: int, item_id: str) -> tuple[float, float]:
        """Two uniforms: whether she looks at the position, and whether she then clicks the item."""
        ...


class ByRequest:
    """One sequence for the whole request: what happens early moves the draws of what happens later."""

    def __init__(self, seed: int, viewer: int, *, at: float) -> None:
        self._rng = stream(seed, "behaviour", viewer, int(at))

    def draw(self, about: str, *numbers: int) -> np.random.Generator:
        """The sequence."""
        return self._rng

    def glance(self, position: int, item_id: str) -> tuple[float, float]:
        """The next two of the sequence."""
        looks, clicks = self._rng.random(2)
        return float(looks), float(clicks)


class ByEntity:
    """A draw depends on viewer, session, page and thing: what a policy shows elsewhere does not move it."""

    def __init__(self, seed: int, viewer: int, *, session: int, page: int) -> None:
        self._seed, self._who = seed, (viewer, session, page)

    def draw(self, about: str, *numbers: int) -> np.random.Generator:
        """A generator for this matter alone."""
        return stream(self._seed, about, *self._who, *numbers)

    def glance(self, position: int, item_id: str) -> tuple[float, float]:
        """The look belongs to the position, the click to the item."""
        looks = uniform(self._seed, "looks", *self._who, position)
        return looks, uniform(self._seed, "clicks", *self._who, number_of(item_id))
