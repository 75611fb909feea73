"""Independent random streams: one a component, and one a (component, numbers), so that drawing in one shifts no other."""

import zlib

import numpy as np


def stream(seed: int, component: str, *numbers: int) -> np.random.Generator:
    """The generator of a component of a world, e.g. `stream(7, "behaviour", viewer, tick)`; equal arguments, equal draws.

    A policy that changes what one viewer does leaves every other viewer's draws as they were (common random numbers).
    """
    return np.random.Generator(
        np.random.PCG64(np.random.SeedSequence([seed, zlib.crc32(component.encode()), *numbers]))
    )
