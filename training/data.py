"""Samples made ready for training: split by time, objectives that can be learned, encoder fitted on the training period."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from events.schema import FeatureValue
from features.encoder import Encoder, Tensor
from training.errors import TooFewSamples
from training.progress import Report, silent

OBJECTIVES = ("click", "completion", "like")
STRONG = ("completion", "like")  # what a viewer did for the item rather than for its title
DRAWN = "explore"  # source of impressions that the feed drew at random with known odds
MIN_TRAIN, MIN_TEST = 200, 20
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class SampleColumns(Protocol):
    """What training reads of the samples, sorted by event time; features.training_input.Samples is one."""

    @property
    def event_at(self) -> npt.NDArray[np.float64]:
        """Epoch seconds of each impression, [n], not falling."""
        ...

    @property
    def user_id(self) -> npt.NDArray[Any]:
        """Viewer of each impression."""
        ...

    @property
    def item_key(self) -> npt.NDArray[Any]:
        """Item key (item id for media, host id for a room)."""
        ...

    @property
    def source(self) -> npt.NDArray[Any]:
        """What brought each item into its feed."""
        ...

    @property
    def content_type(self) -> npt.NDArray[Any]:
        """VIDEO, AUDIO or LIVE."""
        ...

    @property
    def features(self) -> Sequence[Mapping[str, FeatureValue]]:
        """Snapshot of each impression."""
        ...

    def label(self, objective: str) -> npt.NDArray[np.int8]:
        """Labels 0 or 1 of an objective, [n]."""
        ...


@dataclass(frozen=True)
class Prepared:
    """Samples as training uses them; `train` and `test` are row numbers, test strictly later.

    `labels` [n, objectives] float32 holds only objectives with both labels in training; `positive` rows have any of them,
    `strong` rows a completion or a like, `drawn` rows were shown by a draw and not by a choice of the feed.
    """

    encoder: Encoder
    tensors: Mapping[str, Tensor]
    objectives: tuple[str, ...]
    labels: Tensor
    positive: Mask
    strong: Mask
    drawn: Mask
    user_id: Tensor
    item_key: Tensor
    event_at: npt.NDArray[np.float64]
    train: Rows
    test: Rows


def split_by_time(event_at: npt.NDArray[np.float64], train_share: float) -> tuple[Rows, Rows]:
    """Row numbers of the earlier share and of the rest; impressions of one instant stay together, in the rest."""
    if len(event_at) and np.any(np.diff(event_at) < 0):
        raise TooFewSamples("samples must be sorted by event time before they can be split by it")
    cut = (
        int(np.searchsorted(event_at, event_at[int(len(event_at) * train_share)], side="left")) if len(event_at) else 0
    )
    rows = np.arange(len(event_at), dtype=np.int64)
    if cut < MIN_TRAIN or len(rows) - cut < MIN_TEST:
        raise TooFewSamples(
            f"{cut} samples to train on and {len(rows) - cut} to test with are too few; "
            f"at least {MIN_TRAIN} and {MIN_TEST} are needed"
        )
    return rows[:cut], rows[cut:]


def prepare(
    samples: SampleColumns, *, train_share: float, encoder: Encoder | None = None,
    objectives: Sequence[str] | None = None, report: Report = silent,
) -> Prepared:  # fmt: skip
    """Split, choose objectives and encode; an `encoder` and `objectives` are given when a trained model is measured."""
    train, test = split_by_time(samples.event_at, train_share)
    chosen = tuple(objectives) if objectives is not None else _learnable(samples, train, report)
    if encoder is None:
        report("encode", 0, 2, f"fitting the encoder on {len(train)} samples")
        encoder = Encoder.fit([samples.features[row] for row in train])
    report("encode", 1, 2, f"encoding {len(samples.event_at)} samples")
    tensors = encoder.encode(samples.features)
    report("encode", 2, 2)
    labels = np.stack([samples.label(name) for name in chosen], axis=1).astype(np.float32)
    positive = np.any(labels > 0, axis=1)
    strong = np.zeros(len(labels), np.bool_)
    for column, name in enumerate(chosen):
        strong |= (labels[:, column] > 0) & (name in STRONG)
    return Prepared(
        encoder=encoder, tensors=tensors, objectives=chosen, labels=labels, positive=positive, strong=strong,
        drawn=samples.source == DRAWN,
        user_id=samples.user_id.astype(str), item_key=samples.item_key.astype(str), event_at=samples.event_at,
        train=train, test=test,
    )  # fmt: skip


def _learnable(samples: SampleColumns, train: Rows, report: Report) -> tuple[str, ...]:
    """Objectives with both labels in training; the others have nothing to teach and get no head."""
    chosen = []
    for name in OBJECTIVES:
        here = samples.label(name)[train]
        if 0 < int(here.sum()) < len(here):
            chosen.append(name)
        else:
            report(
                "objectives",
                0,
                len(OBJECTIVES),
                f"{name} is {int(here[0])} on every training sample: no head is trained for it",
            )
    if not chosen:
        raise TooFewSamples(f"none of {', '.join(OBJECTIVES)} has both labels among {len(train)} training samples")
    return tuple(chosen)
