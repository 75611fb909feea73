"""The controls' gains on logs made by hand, and Student's interval."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.controls import Shown, grouping, position, waiting
from benchmarks.policies import interval
from events import schema as s
from events.clock import utc
from simulator import World, WorldConfig
from simulator.policies import make


def test_the_interval_is_students() -> None:
    """t with two degrees of freedom is 4.303; the standard error of 1, 2, 3 is 1 / sqrt(3)."""
    assert interval([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.0 - 2.484, 2.0 + 2.484), abs=1e-3)


def impressions(item: str, *, position: int, looked: float, click: float, clicks: int, of: int = 20) -> Any:
    shown = [Shown(f"{item}{n}", item, position, looked, click, 0.0, False) for n in range(of)]
    return shown, {(f"{item}{n}", item) for n in range(clicks)}


def test_clicks_per_look_put_an_item_from_the_bottom_where_it_belongs() -> None:
    """Truth 0.5, 0.3, 0.1; the best was shown low: per impression it comes last (ranks 3, 1, 2), per look first."""
    shown, clicked = [], set()
    for rows, hits in (
        impressions("best", position=9, looked=0.1, click=0.5, clicks=1),
        impressions("mid", position=0, looked=1.0, click=0.3, clicks=6),
        impressions("worst", position=0, looked=1.0, click=0.1, clicks=2),
    ):
        shown += rows
        clicked |= hits
    # correlation of (1, 2, 3) with (1, 2, 3) is 1; with (3, 1, 2) it is -0.5
    assert position(SimpleNamespace(shown=shown, clicked=clicked)) == pytest.approx(1.5)  # type: ignore[arg-type]


def test_acts_after_fifteen_minutes_are_the_ones_a_window_misses() -> None:
    from benchmarks.controls import Witness

    world = World(WorldConfig(viewers=1, hosts=1, creators=1, items=1))
    log, at = Witness(make("random", world), world), utc(1_793_577_600.0)
    about = {"user_id": "v", "room_id": "r", "streamer_id": "h", "request_id": "q"}
    log.hear(s.RoomEntered(event_id="1", event_at=at, **about))
    for number, minutes in enumerate((1, 14, 16, 300)):
        when = at + timedelta(minutes=minutes)
        log.hear(s.GiftSent(event_id=f"g{number}", event_at=when, amount=1.0, **about))
    log.hear(s.StreamerFollowed(event_id="f", event_at=at, **(about | {"request_id": None})))
    assert waiting(log) == 0.5


def test_knowing_the_group_saves_loss_only_where_groups_differ() -> None:
    rng = np.random.default_rng(1)

    def log(gap: float) -> Any:
        older = rng.random(20_000) < 0.5
        clicked = rng.random(20_000) < 1 / (1 + np.exp(1.0 + gap * older))
        shown = [Shown(f"q{n}", "i", 0, 0.999, 0.3, -1.0, bool(old)) for n, old in enumerate(older)]
        return SimpleNamespace(shown=shown, clicked={(f"q{n}", "i") for n in np.flatnonzero(clicked)})

    assert grouping(log(1.0)) > 0.02
    assert abs(grouping(log(0.0))) < 0.001


def test_a_page_counts_down_to_its_first_click() -> None:
    """What came after a click says nothing of the group: she may have left the page."""
    rng = np.random.default_rng(2)
    shown, clicked = [], set()
    for n in range(4_000):
        older = bool(n % 2)
        shown += [Shown(f"q{n}", item, place, 0.999, 0.5, 0.0, older) for place, item in enumerate("ab")]
        first, second = rng.random(2) < 0.5
        clicked |= {(f"q{n}", "a")} if first else set()
        clicked |= {(f"q{n}", "b")} if second and not (first and older) else set()  # the older leave after a click
    assert abs(grouping(SimpleNamespace(shown=shown, clicked=clicked))) < 0.002  # type: ignore[arg-type]
