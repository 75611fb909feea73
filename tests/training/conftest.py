"""A small log with a planted truth: every viewer loves two of eight tags, and clicks, likes and skips accordingly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from events.schema import FeatureValue, MediaHidden, MediaPublished
from features.store import MemoryStore
from training.pipeline import TrainingConfig
from training.ranking import RankerConfig
from training.two_tower import TwoTowerConfig

TAGS = tuple(f"tag{n}" for n in range(8))
START = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SmallSamples:
    """SampleColumns by hand."""

    event_at: npt.NDArray[np.float64]
    user_id: npt.NDArray[Any]
    item_key: npt.NDArray[Any]
    content_type: npt.NDArray[Any]
    features: Sequence[Mapping[str, FeatureValue]]
    labels: Mapping[str, npt.NDArray[np.int8]]

    @property
    def source(self) -> npt.NDArray[Any]:
        return np.array(["trending"] * len(self.event_at), object)

    def label(self, objective: str) -> npt.NDArray[np.int8]:
        return self.labels[objective]

    def relabelled(self, **labels: npt.NDArray[np.int8]) -> "SmallSamples":
        return replace(self, labels={**self.labels, **labels})


def item_tag(item: int) -> str:
    return TAGS[item % len(TAGS)]


def make_samples(rows: int = 4000, users: int = 60, items: int = 240, seed: int = 0) -> SmallSamples:
    """Impressions a minute apart; a recent list holds what was clicked (or skipped) strictly before."""
    draw = np.random.default_rng(seed)
    loves = [set(draw.choice(len(TAGS), 2, replace=False)) for _ in range(users)]
    liked: list[list[str]] = [[] for _ in range(users)]
    skipped: list[list[str]] = [[] for _ in range(users)]
    user, item = draw.integers(users, size=rows), draw.integers(items, size=rows)
    clicks, shows = np.ones((users, len(TAGS))), np.full((users, len(TAGS)), 4.0)
    click, like, features = np.zeros(rows, np.int8), np.zeros(rows, np.int8), []
    for row in range(rows):
        who, what = int(user[row]), int(item[row])
        features.append(
            {
                "user.user_id": f"u{who}", "user.preferred_language": "en", "user.preferred_content_type": "VIDEO",
                "user.recent_positive": liked[who][:20], "user.recent_negative": skipped[who][:20],
                "user.top_categories_7d": [], "user.plays": float(len(liked[who])), "item.item_key": f"m{what}",
                "item.creator_id": f"c{what % 10}", "item.category": item_tag(what), "item.tags": [item_tag(what)],
                "item.content_type": "VIDEO", "item.language": "en", "item.duration_s": 60.0, "context.surface": "home",
                "cross.tag_affinity": float(clicks[who, what % len(TAGS)] / shows[who, what % len(TAGS)]),
            }
        )  # fmt: skip
        love = what % len(TAGS) in loves[who]
        click[row] = draw.random() < (0.8 if love else 0.08)
        like[row] = click[row] and draw.random() < 0.5
        clicks[who, what % len(TAGS)] += click[row]
        shows[who, what % len(TAGS)] += 1
        side = liked if click[row] else skipped
        side[who].insert(0, f"m{what}")
    return SmallSamples(
        START.timestamp() + 60.0 * np.arange(rows), np.array([f"u{n}" for n in user], object),
        np.array([f"m{n}" for n in item], object), np.array(["VIDEO"] * rows, object), features,
        {"click": click, "completion": np.zeros(rows, np.int8), "like": like},
    )  # fmt: skip


def make_store(items: int = 240, hidden: Sequence[int] = ()) -> MemoryStore:
    """The catalogue those samples are from, and one item nobody has met (`new`)."""
    store = MemoryStore()
    names = {f"m{n}": (f"c{n % 10}", item_tag(n)) for n in range(items)} | {"new": ("c1", TAGS[1])}
    events: list[Any] = [
        MediaPublished(
            event_id=f"p-{name}", event_at=START, item_id=name, creator_id=creator, content_type="VIDEO", category=tag,
            tags=(tag,), language="en", duration_s=60.0,
        )
        for name, (creator, tag) in names.items()
    ]  # fmt: skip
    events += [MediaHidden(event_id=f"h-{n}", event_at=START.replace(hour=1), item_id=f"m{n}") for n in hidden]
    for event in events:
        store.apply(event, event.event_at.timestamp())
    return store


@pytest.fixture(scope="session")
def samples() -> SmallSamples:
    """4,000 impressions of 60 viewers and 240 items."""
    return make_samples()


@pytest.fixture(scope="session")
def quick() -> TrainingConfig:
    """Dials for seconds of training."""
    return TrainingConfig(TwoTowerConfig(batch=128, max_steps=100), RankerConfig(max_steps=100))
