"""Random evenings counted twice: by the columns of release/canary_rows.py, and by loops that follow its rules."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from release.canary_rows import COUNTS, Span, seen_in
from tests.release.evenings import START, Evening, clicked, completed, entered, left, shown, started

HOURS, HOUR = 5, 3_600.0
ARMS = ("canary", "stable")


def evening_of(dice: random.Random) -> list[Any]:
    """Twelve viewers, some of whom change arms, with events from before, in and after the span, in disorder."""
    events: list[Any] = []
    for n in range(12):
        viewer, home = f"u{n}", dice.choice((*ARMS, "pinned"))
        for visit in range(dice.randrange(5)):
            at, request = dice.uniform(-HOUR, HOURS * HOUR + 100), f"q{n}-{visit}"
            arm = home if dice.random() < 0.9 else dice.choice(ARMS)
            for position, item in enumerate(dice.sample(range(6), 3)):
                events.append(shown(viewer, request, f"i{item}", at, arm=arm, position=position))
                for _ in range(dice.randrange(3)):
                    events.append(clicked(viewer, request, f"i{item}", at + dice.uniform(-20, 2 * HOUR)))
        for _ in range(dice.randrange(12)):
            at, item = dice.uniform(-HOUR, HOURS * HOUR), f"i{dice.randrange(6)}"
            events.append(dice.choice((started, completed))(viewer, item, at))
            room = f"r{dice.randrange(2)}"
            events.append(
                dice.choice(
                    (entered(viewer, room, at + 1), left(viewer, room, at + 2, watched=dice.choice((5.0, 30.0))))
                )
            )
    dice.shuffle(events)
    return events


def expected(events: list[Any]) -> Counter[tuple[str, str, str, int]]:
    """(count, viewer, arm, hour) -> how many."""
    inside = sorted(
        (one for one in events if 0 <= one.event_at.timestamp() - START < HOURS * HOUR), key=lambda one: one.event_at
    )
    out: Counter[tuple[str, str, str, int]] = Counter()
    pages: dict[tuple[str, str], Any] = {}
    home: dict[str, tuple[str, Any]] = {}

    def count(name: str, viewer: str, arm: str, at: Any) -> None:
        out[name, viewer, arm, int((at.timestamp() - START) // HOUR) + 1] += 1

    for one in inside:
        if hasattr(one, "arm"):
            pages.setdefault((one.request_id, one.item_id), one)
            if one.arm in ARMS:
                home.setdefault(one.user_id, (one.arm, one.event_at))
    seen: set[tuple[str, ...]] = set()
    last: dict[str, Any] = {}
    signs = [page for page in pages.values() if page.arm in ARMS]
    for page in signs:
        count("impressions", page.user_id, page.arm, page.event_at)
    for one in inside:
        kind, page = type(one).__name__, pages.get((getattr(one, "request_id", ""), getattr(one, "item_id", "")))
        answers = kind == "FeedClicked" and page is not None and page.arm in ARMS and one.event_at >= page.event_at
        if answers and ("click", page.event_id) not in seen:
            seen.add(("click", page.event_id))
            count("clicks", page.user_id, page.arm, one.event_at)
        viewer = one.user_id
        if kind == "Impression" or viewer not in home or one.event_at < home[viewer][1]:
            continue
        signs.append(one)
        item = getattr(one, "item_id", None) or one.room_id
        if kind in ("MediaStarted", "RoomEntered") and ("start", viewer, item) not in seen:
            seen.add(("start", viewer, item))
            for name in ("starts", "items"):
                count(name, viewer, home[viewer][0], one.event_at)
    for one in inside:
        kind, viewer = type(one).__name__, one.user_id
        done = kind == "MediaCompleted" or (kind == "RoomLeft" and one.watched_s >= 30)
        if done and viewer in home and one.event_at >= home[viewer][1]:
            item = getattr(one, "item_id", None) or one.room_id
            if ("start", viewer, item) in seen and ("end", viewer, item) not in seen:
                seen.add(("end", viewer, item))
                count("completions", viewer, home[viewer][0], one.event_at)
    for one in sorted(signs, key=lambda sign: sign.event_at):
        before = last.get(one.user_id)
        if before is None or (one.event_at - before).total_seconds() > 1_800:
            count("sessions", one.user_id, home[one.user_id][0], one.event_at)
        last[one.user_id] = one.event_at
    return out


@pytest.mark.parametrize("seed", range(6))
def test_columns_and_loops_count_the_same(lake: Path, seed: int) -> None:
    events = evening_of(random.Random(seed))
    Evening(lake).store(events)
    found = seen_in(lake, Span(START, HOURS), arms=ARMS)
    rows, viewers = found.rows, found.viewers.to_pylist()
    got = Counter({
        (name, viewers[viewer], ARMS[arm], hour): int(number)
        for name in COUNTS
        for viewer, arm, hour, number in zip(
            rows.viewer.tolist(), rows.arm.tolist(), rows.hour.tolist(), rows.counts[name].tolist(), strict=True
        )
        if number
    })  # fmt: skip
    assert got == expected(events)
    assert {name for name, *_ in got} == set(COUNTS)
