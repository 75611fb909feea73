"""Random streams apart from each other: one a component, one a (component, numbers), and single numbers drawn by counting.

A draw depends on what it is for (seed, component, entity, occasion) and never on how many draws others made before it. So
two policies meet the same world, and a policy changes only what it can change (common random numbers).
"""

import functools
import zlib

import numpy as np
import numpy.typing as npt

_MASK = 2**64 - 1
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # splitmix64 (Steele et al. 2014)


def stream(seed: int, component: str, *numbers: int) -> np.random.Generator:
    """The generator of a component of a world, e.g. `stream(7, "behaviour", viewer, tick)`; equal arguments, equal draws.

    A policy that changes what one viewer does leaves every other viewer's draws as they were (common random numbers).
    """
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(component.encode()), *numbers]))
    )


def number_of(name: str) -> int:
    """A name as a whole number below 2**32, for `uniform` and `stream`; the same in every process."""
    return zlib.crc32(name.encode())


@functools.lru_cache(maxsize=256)
def _key(seed: int, component: str) -> int:
    return _mixed(_mixed(seed & _MASK) ^ zlib.crc32(component.encode()))


def _mixed(value: int) -> int:
    value = (value + _GOLDEN) & _MASK
    value = ((value ^ (value >> 30)) * _FIRST) & _MASK
    value = ((value ^ (value >> 27)) * _SECOND) & _MASK
    return value ^ (value >> 31)


def uniform(seed: int, component: str, *numbers: int) -> float:
    """One uniform draw in [0, 1) that is a function of its arguments (whole numbers from 0)."""
    state = _key(seed, component)
    for number in numbers:
        state = _mixed(state ^ (number & _MASK))
    return (state >> 11) * 2.0**-53


def uniforms(seed: int, component: str, entities: npt.NDArray[np.int64], *numbers: int) -> npt.NDArray[np.float64]:
    """`uniform(seed, component, entity, *numbers)` for every entity at once, [entities]."""
    state = _mixed_array(np.uint64(_key(seed, component)) ^ entities.astype(np.uint64))
    for number in numbers:
        state = _mixed_array(state ^ np.uint64(number & _MASK))
    drawn: npt.NDArray[np.float64] = (state >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn


def _mixed_array(value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    value = value + np.uint64(_GOLDEN)  # wraps at 2**64, as meant
    value = (value ^ (value >> np.uint64(30))) * np.uint64(_FIRST)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(_SECOND)
    return value ^ (value >> np.uint64(31))
