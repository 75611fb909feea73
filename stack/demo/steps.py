"""Seconds by stage, said as they pass."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Say = Callable[[str], None]


@dataclass
class Steps:
    """Names a stage when it begins, and keeps how many wall seconds it took."""

    say: Say
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, what: str) -> Iterator[None]:
        """Time one stage; a stage that fails is timed too."""
        self.say(f"── {what}")
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - begun, 1)
            self.say(f"   {name}: {self.seconds[name]} s")
