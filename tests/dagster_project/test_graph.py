"""The asset graph: what runs in which order, and that each blocking check stops what follows it."""

import ast
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from dagster_project.definitions import defs
from dagster_project.run import Learned
from features.errors import FeaturesError, NoSamples
from registry.verdict import Outcome
from training.errors import Diverged

ROOT = Path(__file__).resolve().parents[2]
Learn = Callable[[], Learned]
ASSETS = {
    "events_stored", "user_features", "item_features", "creator_features", "samples", "candidate", "verdict",
    "registered_release", "drift_report", "skew_report", "deployment",
}  # fmt: skip
ASIDE = {
    "samples_corrected",
    "erased_people",
    "tidy_tables",
    "canary_looks",
    "canary_decision",
    "promotion",
    "bias_audit",
}  # materialised by who wants it, and by the nightly, hourly and monthly jobs


def test_the_definitions_load_with_every_asset_and_blocking_checks_only() -> None:
    dg.Definitions.validate_loadable(defs)
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == ASSETS | ASIDE
    assert len(graph.asset_check_keys) == 10
    assert all(graph.get_check_spec(key).blocking for key in graph.asset_check_keys)


def test_the_whole_graph_ends_with_a_release_in_traffic(learn: Learn, rooms: Any) -> None:
    learned = learn()
    assert learned.failure == ""
    assert set(learned.assets) == ASSETS
    assert rooms.asked_dates == [(date(2026, 11, 2), date(2026, 11, 3), date(2026, 11, 4))]  # one job, three days
    assert rooms.deployed == ["demo-1"]
    assert learned.assets["deployment"] == {
        "release": "demo-1", "version": 1, "mlflow_run": "run-of-demo-1", "path": learned.assets["deployment"]["path"],
    }  # fmt: skip
    assert learned.assets["samples"]["positives.click"] == 5
    assert learned.assets["samples"]["rates"][0]["source"] == "live"
    assert learned.assets["candidate"]["recall_at_100_cold"] == "not computable"
    assert learned.assets["verdict"]["outcome"] == "pass"
    assert ASSETS - {"user_features", "item_features", "creator_features"} <= set(learned.seconds)
    assert [said.passed for said in learned.checks] == [True] * 7


def test_each_day_counts_as_materialised(learn: Learn, instance: dg.DagsterInstance) -> None:
    learn()
    days = {"2026-11-02", "2026-11-03", "2026-11-04"}
    assert instance.get_materialized_partitions(dg.AssetKey("samples")) == days
    assert instance.get_materialized_partitions(dg.AssetKey("user_features")) == days


def test_plots_lie_in_the_candidates_metadata(learn: Learn, instance: dg.DagsterInstance) -> None:
    learn()
    event = instance.get_latest_materialization_event(dg.AssetKey("candidate"))
    assert event is not None and event.asset_materialization is not None
    shown = event.asset_materialization.metadata
    for name in ("plot: loss", "plot: calibration", "plot: ROC"):
        assert "data:image/png;base64," in str(shown[name].value)


def test_no_samples_stop_the_run_before_training(learn: Learn, rooms: Any) -> None:
    rooms.rows, rooms.build_error = 0, NoSamples("no impression has an event date from 2026-11-02 to 2026-11-04")
    learned = learn()
    assert learned.failure == (
        "asset check there_are_samples of samples failed: 0 samples; serve or replay impressions first"
    )
    assert "candidate" not in learned.assets


def test_a_skewed_feature_is_named_and_stops_the_run_before_training(learn: Learn, rooms: Any) -> None:
    rooms.skew = Outcome.FAIL
    learned = learn()
    assert learned.failure == "asset check features_agree of skew_report failed: item.plays: it says so"
    assert learned.assets["skew_report"]["skewed"] == "item.plays"
    assert {"candidate", "verdict", "registered_release", "deployment"}.isdisjoint(learned.assets)


def test_an_undecided_skew_is_no_pass_and_stops_nothing(learn: Learn, rooms: Any) -> None:
    rooms.skew = Outcome.UNDECIDED
    learned = learn()
    said = {one.name: one for one in learned.checks}["features_agree"]
    assert (said.passed, said.blocks) == (False, False)
    assert learned.succeeded


def test_a_quiet_day_does_not_stop_learning_from_older_samples(learn: Learn, rooms: Any) -> None:
    rooms.build_error = NoSamples("no impression has an event date from 2026-11-02 to 2026-11-04")
    learned = learn()
    assert learned.succeeded
    assert learned.assets["samples"]["note"].startswith("no impression")


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_a_number_stops_the_run(learn: Learn, rooms: Any, loss: float) -> None:
    rooms.loss = loss
    learned = learn()
    assert learned.failure == ("asset check losses_are_numbers of candidate failed: two_tower.loss are not numbers")
    assert {"verdict", "registered_release", "deployment"}.isdisjoint(learned.assets)


def test_retrieval_worse_than_popularity_stops_the_run(learn: Learn, rooms: Any) -> None:
    rooms.hits, rooms.popular = 0.2, 0.4
    learned = learn()
    assert learned.failure.startswith("asset check better_than_popularity of candidate failed: recall@100 0.")
    assert {"verdict", "registered_release", "deployment"}.isdisjoint(learned.assets)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "has no models/two_tower/saved_model.pb"), (b"", "does not load: it is cut off")]
)
def test_an_export_that_cannot_be_read_stops_the_run(learn: Learn, rooms: Any, content: Any, reason: str) -> None:
    rooms.saved_model = content
    learned = learn()
    assert learned.failure.startswith("asset check export_is_readable of candidate failed: ")
    assert reason in learned.failure
    assert {"verdict", "registered_release", "deployment"}.isdisjoint(learned.assets)


def test_an_undecided_gate_is_registered_but_not_deployed(learn: Learn, rooms: Any) -> None:
    rooms.viewers = 12
    learned = learn()
    assert learned.failure == ("asset check gate_passes of verdict failed: the gate says undecided: too_few_viewers")
    assert rooms.registered == ["demo-1"]
    assert rooms.deployed == []


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Diverged("the ranker's loss is nan after epoch 2"), "the ranker's loss is nan after epoch 2"),
        (FeaturesError("table: not there"), "table: not there"),
    ],
)
def test_an_error_of_a_room_ends_the_run_with_its_own_sentence(
    learn: Learn, rooms: Any, error: Exception, sentence: str
) -> None:
    rooms.train_error = error
    assert learn().failure == f"asset candidate failed: {sentence}"


def test_an_asset_is_a_noun_a_typed_input_a_call_and_metadata_in_twenty_lines() -> None:
    for file in (ROOT / "dagster_project" / "assets").glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.decorator_list:
                assert node.returns is not None, node.name
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno + 1 <= 20, node.name


def test_a_second_run_trains_a_second_version(learn: Learn, rooms: Any) -> None:
    learn()
    assert learn().assets["deployment"]["release"] == "demo-2"
    assert np.unique(rooms.deployed).tolist() == ["demo-1", "demo-2"]


def test_loading_the_definitions_loads_neither_tensorflow_nor_spark() -> None:
    """The web server and the daemon load them, and would hold a gigabyte each for nothing."""
    heavy = "{'tensorflow', 'pyspark', 'evidently', 'mlflow'}"
    code = f"import sys, dagster_project.definitions; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip().splitlines()[-1] == "set()"
