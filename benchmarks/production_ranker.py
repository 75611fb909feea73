"""The ranker as training exports it, on a small drawn log: real weights and signatures, vocabularies of a few thousand.

5,000 impressions of 1,500 viewers and 2,000 items, full recent lists, clicks by taste; a few hundred steps. Its cost hardly
depends on what it learned, and its embedding tables are small beside those of a platform.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from events.schema import FeatureValue

ROWS, VIEWERS, ITEMS, TAGS, RECENT = 5_000, 1_500, 2_000, 20, 20
STEPS = 200
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class DrawnLog:
    """SampleColumns of drawn impressions a second apart."""

    event_at: npt.NDArray[np.float64]
    user_id: Array
    item_key: Array
    source: Array
    content_type: Array
    features: Sequence[Mapping[str, FeatureValue]]
    labels: Mapping[str, npt.NDArray[np.int8]]

    def label(self, objective: str) -> npt.NDArray[np.int8]:
        """Labels 0 or 1 of an objective, [n]."""
        return self.labels[objective]


def drawn_log(seed: int) -> DrawnLog:
    """Viewers who click what has the tag they love four times in five, and else one time in ten."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(VIEWERS, size=ROWS), rng.integers(ITEMS, size=ROWS)
    click = (rng.random(ROWS) < np.where(user % TAGS == item % TAGS, 0.8, 0.1)).astype(np.int8)
    labels = {name: (click * (rng.random(ROWS) < share)).astype(np.int8)
              for name, share in (("click", 1.0), ("completion", 0.5), ("like", 0.3))}  # fmt: skip
    recent = rng.integers(ITEMS, size=(ROWS, 2, RECENT))
    return DrawnLog(
        1.8e9 + np.arange(ROWS, dtype=np.float64), _ids("u", user), _ids("m", item), _named("trending"), _named("VIDEO"),
        [_features(int(u), int(i), lists, rng) for u, i, lists in zip(user, item, recent, strict=True)], labels,
    )  # fmt: skip


def export(folder: Path, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    """Train, write the SavedModel; one viewer and the items of the log as `rank` and as `rank_packed` take them."""
    from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS
    from features.packing import packing_of
    from training.data import prepare
    from training.export import export_model
    from training.ranking import RankerConfig, train_ranker
    from training.serving_signatures import signatures_of

    data = prepare(drawn_log(seed), train_share=0.8)
    ranker = train_ranker(data, RankerConfig(max_steps=STEPS), seed=seed).model
    packing = packing_of(data.encoder.config)
    export_model(folder, ranker, data.tensors, signatures=signatures_of(ranker, packing))
    user = {name: np.ascontiguousarray(data.tensors[name][:1]) for name in USER_TENSORS}
    items = {name: data.tensors[name] for name in (*ITEM_TENSORS, *STATS_TENSORS)}
    return user | items, packing.pack_user(user) | packing.pack_items(items)


def _features(user: int, item: int, recent: Array, rng: np.random.Generator) -> dict[str, FeatureValue]:
    tag, love = f"t{item % TAGS}", f"t{user % TAGS}"
    numbers = dict(
        zip(("item.plays", "item.views_1h", "user.plays", "cross.tag_affinity"), rng.random(4) * 9, strict=True)
    )
    return {
        "user.user_id": f"u{user}", "user.preferred_language": "en", "user.preferred_content_type": "VIDEO",
        "user.top_categories_7d": [love, tag], "user.recent_positive": [f"m{one}" for one in recent[0]],
        "user.recent_negative": [f"m{one}" for one in recent[1]], "item.item_key": f"m{item}",
        "item.creator_id": f"c{item % 200}", "item.category": tag, "item.tags": [tag, f"t{item % 7}"],
        "item.content_type": "VIDEO", "item.language": "en", "item.duration_s": 60.0 + item % 300,
        "context.surface": "home", **{name: float(number) for name, number in numbers.items()},
    }  # fmt: skip


def _ids(prefix: str, numbers: Array) -> Array:
    return np.array([f"{prefix}{n}" for n in numbers], object)


def _named(word: str) -> Array:
    return np.array([word] * ROWS, object)
