"""From named feature values to tensors: fitted on samples, saved with the release, used alike by training and proxy.

No TensorFlow here: the proxy must not import it. Index 0 of every vocabulary means unknown (and padding in lists).
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from features.definitions import AUDIT_ONLY
from features.errors import BadEncoder

FORMAT = 1
Tensor = npt.NDArray[Any]
_TRANSFORMS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "log1p": lambda x: math.log1p(max(x, 0.0)),
    "gap": lambda x: math.log1p(x) if x >= 0 else -1.0,  # hours since; -1 is never
}


@dataclass(frozen=True)
class EncoderConfig:
    """What is encoded and how; saved whole in the encoder file."""

    numbers: Mapping[str, Mapping[str, str]]  # tensor name -> {feature: transform}
    words: Mapping[str, str]  # tensor name -> feature, one word a row
    lists: Mapping[str, tuple[str, int]]  # tensor name -> (feature, length)
    vocabularies: Mapping[str, str]  # tensor name -> vocabulary name (shared by lists and words)
    min_count: int = 2  # a word seen less often is unknown; hard admission comes with the fresh models


USER_TENSORS = ("user_id", "user_language", "user_content_type", "user_categories", "recent_positive", "recent_negative",
                "user_num")  # fmt: skip
ITEM_TENSORS = ("item_key", "creator_id", "category", "tags", "content_type", "language", "item_static")
STATS_TENSORS = ("item_num", "cross_num", "surface")

DEFAULT_CONFIG = EncoderConfig(
    numbers={
        "user_num": {
            "user.plays_7d": "log1p", "user.plays": "log1p", "user.satisfaction": "linear", "user.like_ratio": "linear",
            "user.completion_rate": "linear",
        },
        "item_static": {"item.duration_s": "log1p"},
        "item_num": {
            "item.views_1h": "log1p", "item.play_count_24h": "log1p", "item.plays": "log1p",
            "item.satisfaction": "linear", "item.like_ratio": "linear", "item.completion_rate": "linear",
            "item.avg_watch_s": "log1p", "item.current_viewers": "log1p", "item.interactions_15m": "log1p",
            "item.publish_age_hours": "gap", "creator.subscribers": "log1p", "creator.plays": "log1p",
            "creator.satisfaction": "linear",
        },
        "cross_num": {
            "cross.tag_affinity": "linear", "cross.tags_met": "linear", "cross.language_match": "linear",
            "cross.follows": "linear", "cross.creator_watches": "log1p", "cross.creator_gap_h": "gap",
            "cross.seen_recently": "linear",
        },
    },
    words={
        "user_id": "user.user_id", "user_language": "user.preferred_language",
        "user_content_type": "user.preferred_content_type", "item_key": "item.item_key",
        "creator_id": "item.creator_id", "category": "item.category", "content_type": "item.content_type",
        "language": "item.language", "surface": "context.surface",
    },
    lists={
        "user_categories": ("user.top_categories_7d", 3), "recent_positive": ("user.recent_positive", 20),
        "recent_negative": ("user.recent_negative", 20), "tags": ("item.tags", 6),
    },
    vocabularies={
        "user_id": "user", "user_language": "language", "language": "language", "user_content_type": "preferred",
        "content_type": "content_type", "item_key": "item", "recent_positive": "item", "recent_negative": "item",
        "creator_id": "creator", "category": "tag", "user_categories": "tag", "tags": "tag", "surface": "surface",
    },
)  # fmt: skip


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


@dataclass(frozen=True)
class Encoder:
    """Vocabularies and scales; `encode` is a pure function of it."""

    config: EncoderConfig
    vocabulary: Mapping[str, Mapping[str, int]]  # vocabulary -> word -> index from 1
    mean: Mapping[str, float]  # feature -> mean after its transform
    scale: Mapping[str, float]  # feature -> standard deviation after its transform

    @staticmethod
    def fit(rows: Sequence[Mapping[str, Any]], config: EncoderConfig = DEFAULT_CONFIG) -> "Encoder":
        """Count words and measure numbers over snapshot rows; BadEncoder when there are none or an input is audit-only."""
        if not rows:
            raise BadEncoder("an encoder cannot be fitted on no rows; build samples first")
        _refuse_audit_only(config)
        counts: dict[str, Counter[str]] = {name: Counter() for name in set(config.vocabularies.values())}
        for tensor, feature in config.words.items():
            counts[config.vocabularies[tensor]].update(
                str(row[feature]) for row in rows if row.get(feature) is not None
            )
        for tensor, (feature, _) in config.lists.items():
            counts[config.vocabularies[tensor]].update(str(w) for row in rows for w in row.get(feature) or ())
        vocabulary = {
            name: {
                word: index for index, word in enumerate(sorted(w for w, n in seen.items() if n >= config.min_count), 1)
            }
            for name, seen in counts.items()
        }
        mean, scale = {}, {}
        for features in config.numbers.values():
            for feature, transform in features.items():
                column = _column(rows, feature, transform)
                known = column[~np.isnan(column)]
                mean[feature] = float(known.mean()) if known.size else 0.0
                scale[feature] = float(known.std()) or 1.0 if known.size else 1.0
        return Encoder(config, vocabulary, mean, scale)

    def encode(self, rows: Sequence[Mapping[str, Any]], tensors: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Snapshot rows as tensors by name: words int64 [n], lists int64 [n, length], numbers float32 [n, features].

        A missing number becomes the mean (0 after scaling), a missing or unknown word index 0.
        """
        wanted = set(tensors) if tensors is not None else None
        out: dict[str, Tensor] = {}
        for name, feature in self.config.words.items():
            if wanted is None or name in wanted:
                index = self.vocabulary[self.config.vocabularies[name]]
                out[name] = np.fromiter((index.get(str(row.get(feature)), 0) for row in rows), np.int64, len(rows))
        for name, (feature, length) in self.config.lists.items():
            if wanted is None or name in wanted:
                out[name] = self._lists(rows, name, feature, length)
        for name, features in self.config.numbers.items():
            if wanted is None or name in wanted:
                out[name] = self._scaled(rows, features)
        return out

    def _lists(self, rows: Sequence[Mapping[str, Any]], name: str, feature: str, length: int) -> Tensor:
        index = self.vocabulary[self.config.vocabularies[name]]
        out = np.zeros((len(rows), length), np.int64)
        for i, row in enumerate(rows):
            for j, word in enumerate((row.get(feature) or ())[:length]):
                out[i, j] = index.get(str(word), 0)
        return out

    def _scaled(self, rows: Sequence[Mapping[str, Any]], features: Mapping[str, str]) -> Tensor:
        if len(rows) == 1:  # a request's viewer: arrays of one number cost ten times the number
            return np.array([[self._reading(rows[0], *one) for one in features.items()]], np.float32)
        found = np.stack([_column(rows, feature, transform) for feature, transform in features.items()], axis=1)
        found -= [self.mean[feature] for feature in features]
        found /= [self.scale[feature] for feature in features]
        return np.nan_to_num(found, nan=0.0, posinf=8.0, neginf=-8.0).clip(-8.0, 8.0).astype(np.float32)

    def _reading(self, row: Mapping[str, Any], feature: str, transform: str) -> float:
        number = (_TRANSFORMS[transform](_number(row.get(feature))) - self.mean[feature]) / self.scale[feature]
        return 0.0 if math.isnan(number) else min(max(number, -8.0), 8.0)

    def size(self, tensor: str) -> int:
        """Rows an embedding table for that tensor needs: its vocabulary and the unknown."""
        return len(self.vocabulary[self.config.vocabularies[tensor]]) + 1

    def save(self, path: Path) -> None:
        """Write as JSON."""
        config = {
            "numbers": self.config.numbers, "words": self.config.words, "lists": self.config.lists,
            "vocabularies": self.config.vocabularies, "min_count": self.config.min_count,
        }  # fmt: skip
        body = {
            "format": FORMAT,
            "config": config,
            "vocabulary": self.vocabulary,
            "mean": self.mean,
            "scale": self.scale,
        }
        path.write_text(json.dumps(body), encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "Encoder":
        """Read what `save` wrote; BadEncoder names the file."""
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            if body["format"] != FORMAT:
                raise BadEncoder(f"encoder {path} has format {body['format']}; this version reads {FORMAT}")
            raw = body["config"]
            lists = {name: (feature, int(length)) for name, (feature, length) in raw["lists"].items()}
            config = EncoderConfig(raw["numbers"], raw["words"], lists, raw["vocabularies"], raw["min_count"])
            return Encoder(config, body["vocabulary"], body["mean"], body["scale"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadEncoder(f"encoder {path} cannot be read: {error}") from None


def _column(rows: Sequence[Mapping[str, Any]], feature: str, transform: str) -> npt.NDArray[np.float64]:
    change = _TRANSFORMS[transform]
    return np.fromiter((change(_number(row.get(feature))) for row in rows), np.float64, len(rows))


def _refuse_audit_only(config: EncoderConfig) -> None:
    names = [
        *config.words.values(),
        *(f for f, _ in config.lists.values()),
        *(f for fs in config.numbers.values() for f in fs),
    ]
    banned = sorted(name for name in names if name.rsplit(".", 1)[-1] in AUDIT_ONLY)
    if banned:
        raise BadEncoder(f"{banned[0]} serves the audit alone and may not be a model input")
