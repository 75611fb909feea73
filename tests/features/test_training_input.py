"""Samples as training reads them: in time order, parsed once, split by time with no instant on both sides."""

from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from features.errors import BadRange, NoSamples
from features.labels import NAMES
from features.training_input import Samples, read_corrected, read_samples, to_samples


def samples(times: list[float]) -> Samples:
    count = len(times)
    columns = {one.name: np.array([f"{one.name}{n}" for n in range(count)], dtype=object) for one in fields(Samples)}
    columns |= {name: np.zeros(count, np.int8) for name in NAMES}
    rows = [{"user.plays": float(n)} for n in range(count)]
    return Samples(**{**columns, "event_at": np.array(times), "features": rows})  # type: ignore[arg-type]


def test_a_split_keeps_impressions_of_one_instant_together() -> None:
    early, late = samples([1.0, 2.0, 3.0, 3.0, 3.0, 4.0]).split(0.5)
    assert early.event_at.tolist() == [1.0, 2.0] and late.event_at.tolist() == [3.0, 3.0, 3.0, 4.0]
    assert [row["user.plays"] for row in late.features] == [2.0, 3.0, 4.0, 5.0]
    assert late.user_id[0] == "user_id2"


def test_rows_are_taken_by_mask_or_index() -> None:
    some = samples([1.0, 2.0, 3.0])
    assert some.take(np.array([True, False, True])).event_at.tolist() == [1.0, 3.0]
    assert some.take(np.array([2, 0])).features[0] == {"user.plays": 2.0}


@pytest.mark.parametrize("fraction", [0.0, 1.0, -3.0])
def test_a_fraction_outside_nought_and_one_is_refused(fraction: float) -> None:
    with pytest.raises(BadRange, match="between 0 and 1"):
        samples([1.0, 2.0]).split(fraction)


@pytest.mark.parametrize("times", [[], [1.0], [5.0, 5.0, 5.0]])
def test_what_cannot_be_split_by_time_is_refused(times: list[float]) -> None:
    with pytest.raises(NoSamples):
        samples(times).split()


def test_no_samples_yet_is_said_in_one_sentence(lake: Path) -> None:
    with pytest.raises(
        NoSamples, match=r"no samples up to 2026-11-10 are in .*; `livefeed features samples` builds them"
    ):
        read_samples(lake, until=date(2026, 11, 10))


def test_no_corrected_samples_yet_names_the_command_that_builds_them(lake: Path) -> None:
    with pytest.raises(NoSamples, match=r"no samples corrected are in .*samples --attribution correction` builds them"):
        read_corrected(lake)


def test_an_unknown_objective_is_refused_by_name() -> None:
    with pytest.raises(BadRange, match="there is no objective 'hug'; allowed are click, watch, "):
        samples([1.0, 2.0]).label("hug")


def test_a_label_that_an_older_build_did_not_write_is_no_zero() -> None:
    words = {one.name: pa.array(["x", "y"]) for one in fields(Samples)}
    columns = words | {name: pa.array([1, 0], pa.int8()) for name in NAMES} | {"features": pa.array(["{}", "{}"])}
    with pytest.raises(NoSamples, match="1 samples of older builds have no label 'gift'"):
        to_samples(pa.table(columns | {"gift": pa.array([1, None], pa.int8())}))
