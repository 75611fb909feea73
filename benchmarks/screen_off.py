"""Screens that are off: the events of such a visit wait in the client and reach the log when the screen is on again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from events import schema as s
from events.topics import ENGAGEMENT, topic_of
from simulator.streams import stream


@dataclass(frozen=True)
class ScreenOff:
    """How often and how long; assumptions, chosen so that about a third of the visits report late."""

    share: float = 0.3  # of the visits
    median_s: float = 2_400.0  # from the end of the visit until the screen is on again
    sigma: float = 1.0  # of the logarithm
    lost_share: float = 0.005  # events that never arrive, screen on or off


class Arrival(NamedTuple):
    """When an event reaches the log (epoch seconds), and the event."""

    at: float
    event: s.Event


def arrivals(events: Sequence[s.Event], screens: ScreenOff, *, seed: int) -> list[Arrival]:
    """The events in the order in which they arrive; a visit is what one viewer did after one impression."""
    rng = stream(seed, "screen off")
    visits: dict[tuple[str, str], list[s.Event]] = {}
    out: list[Arrival] = []
    for event in events:
        request, item = getattr(event, "request_id", None), _item(event)
        if topic_of(event).name == ENGAGEMENT and request:
            visits.setdefault((request, item), []).append(event)
        else:
            out.append(Arrival(event.event_at.timestamp(), event))
    for visit in visits.values():
        off, wait, lost = (
            rng.random(),
            float(rng.lognormal(np.log(screens.median_s), screens.sigma)),
            rng.random(len(visit)),
        )
        on_again = visit[-1].event_at.timestamp() + wait
        for event, luck in zip(visit, lost.tolist(), strict=True):
            if luck >= screens.lost_share:
                out.append(Arrival(on_again if off < screens.share else event.event_at.timestamp(), event))
    return sorted(out, key=lambda arrival: arrival.at)


def _item(event: s.Event) -> str:
    return str(getattr(event, "item_id", None) or getattr(event, "room_id", None))
