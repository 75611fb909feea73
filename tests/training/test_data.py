"""Splitting by time and choosing what can be learned."""

import numpy as np
import pytest

from tests.training.conftest import SmallSamples
from training.data import prepare, split_by_time
from training.errors import BadDials, TooFewSamples
from training.ranking import RankerConfig


def test_impressions_of_one_instant_stay_together_in_the_test_period() -> None:
    event_at = np.concatenate([np.arange(700.0), np.full(200, 700.0), np.arange(701.0, 801.0)])
    train, test = split_by_time(event_at, 0.8)  # row 800 lies among the 200 equal ones, which begin at row 700
    assert (train[-1], test[0]) == (699, 700)
    assert event_at[train].max() < event_at[test].min()


@pytest.mark.parametrize("rows", [0, 1, 150])
def test_too_few_samples_are_refused_with_their_number(rows: int) -> None:
    with pytest.raises(TooFewSamples, match=str(int(rows * 0.8))):
        split_by_time(np.arange(float(rows)), 0.8)


def test_unsorted_samples_are_refused() -> None:
    with pytest.raises(TooFewSamples, match="sorted"):
        split_by_time(np.array([2.0, 1.0]), 0.8)


def test_an_objective_that_is_constant_in_training_gets_no_head_and_is_said(samples: SmallSamples) -> None:
    said: list[str] = []
    data = prepare(samples, train_share=0.8, report=lambda stage, done, total, note="": said.append(note))
    assert data.objectives == ("click", "like")
    assert "completion is 0 on every training sample: no head is trained for it" in said


def test_no_learnable_objective_at_all_is_refused(samples: SmallSamples) -> None:
    nothing = np.zeros(len(samples.event_at), np.int8)
    with pytest.raises(TooFewSamples, match="none of click, completion, like"):
        prepare(samples.relabelled(click=nothing, like=nothing), train_share=0.8)


def test_the_encoder_knows_no_word_of_the_test_period_alone(samples: SmallSamples) -> None:
    late = [dict(row) for row in samples.features]
    for row in late[-100:]:
        row["item.creator_id"] = "latecomer"
    data = prepare(SmallSamples(**{**vars(samples), "features": late}), train_share=0.8)
    assert "latecomer" not in data.encoder.vocabulary["creator"]
    assert (data.tensors["creator_id"][-100:] == 0).all()


def test_a_dial_out_of_range_is_named() -> None:
    with pytest.raises(BadDials, match=r"dial dropout is 1\.5; it must be at least 0 and below 1"):
        RankerConfig(dropout=1.5)
    with pytest.raises(BadDials, match="dial batch is 0"):
        RankerConfig(batch=0)
