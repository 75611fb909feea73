"""A candidate's folder, whole: what is in it, that it answers, and that what is broken is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from events.clock import SetClock
from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder
from registry.errors import BadFormula
from registry.evaluation import Evaluation
from registry.manifest import Manifest, check_artefacts, read_manifest
from registry.neighbours import NeighbourLists, ids_checksum
from tests.training.conftest import SmallSamples, make_store
from training.data import prepare
from training.errors import SeenInTraining, UnreadableExport
from training.evaluate import measure_ranking
from training.export import load_scorers, signatures_of, verify_export
from training.pipeline import TrainingConfig, _formula, _offer, refuse_seen, train_candidate
from training.tf import tf
from training.two_tower import TwoTower


@pytest.fixture(scope="module")
def candidate(samples: SmallSamples, quick: TrainingConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("candidates") / "demo-7"
    train_candidate(
        samples, make_store(hidden=[3]), out, line="demo", version=7, seed=2, config=quick, tables={"samples": 4},
        clock=SetClock(1_800_000_000.0),
    )  # fmt: skip
    return out


def test_the_manifest_says_what_was_trained_on_what(candidate: Path, samples: SmallSamples) -> None:
    manifest = read_manifest(candidate)
    assert (manifest.name, manifest.objectives, manifest.tables) == ("demo-7", ("click", "like"), {"samples": 4})
    assert manifest.formula == {"click": 1.0, "like": 1.0}
    assert manifest.created_at == "2027-01-15T08:00:00+00:00"
    assert manifest.dials["run"]["seed"] == 2
    assert manifest.dials["ranker"]["hidden"] == "64-32"
    assert manifest.metrics["auc_click"] == Evaluation.load(candidate).figures()["auc_click"]


def test_an_increment_of_a_line_with_a_formula_of_its_own_keeps_it(samples: SmallSamples) -> None:
    data: Any = SimpleNamespace(objectives=("click", "like"))
    own = {"click": 1.0, "like": -2.0}
    assert (_formula(own, data.objectives), _formula(None, data.objectives)) == (own, {"click": 1.0, "like": 1.0})
    with pytest.raises(BadFormula, match="names 'gifts', which is no objective"):
        _formula({"gifts": 1.0}, data.objectives)
    powers = {"kind": "sum", "terms": {"like": {"weight": 3.0, "power": 0.5}}}  # not what `recommend` can weigh
    offers = [_offer(make_store(), samples, data, formula).weights for formula in (own, {"like": 4.0}, powers)]
    assert offers == [[1.0, -2.0], [0.0, 4.0], [1.0, 1.0]]


def test_the_index_holds_every_shown_item_once_as_a_unit_vector(candidate: Path) -> None:
    with np.load(candidate / "index.npz", allow_pickle=False) as index:
        ids, vectors = index["item_ids"].tolist(), index["embeddings"]
    assert sorted(ids) == sorted([f"m{n}" for n in range(240) if n != 3] + ["new"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_the_manifest_names_the_neighbours_by_checksum_and_they_are_of_the_index(candidate: Path) -> None:
    manifest = read_manifest(candidate)
    assert "neighbours/media/rows.npy" in manifest.artefacts
    check_artefacts(candidate, manifest)
    assert manifest.dials["neighbours"]["min_common"] == 3
    with np.load(candidate / "index.npz", allow_pickle=False) as index:
        lists = NeighbourLists.open(candidate / "neighbours" / "media")
        assert lists.ids_crc32 == ids_checksum(index["item_ids"].tolist())
        assert len(lists.of) == len(index["item_ids"])


def test_the_exported_models_repeat_the_evaluation(candidate: Path, samples: SmallSamples) -> None:
    manifest, encoder = read_manifest(candidate), Encoder.load(candidate / "encoder.json")
    data = prepare(samples, train_share=0.8, encoder=encoder, objectives=manifest.objectives)
    again = measure_ranking(data, load_scorers(candidate).rank)
    np.testing.assert_allclose(again["click"].score, Evaluation.load(candidate).ranking["click"].score, atol=1e-5)


def test_signatures_have_the_names_and_shapes_that_serving_calls(candidate: Path) -> None:
    ranker = tf.saved_model.load(str(candidate / "models" / "ranker"))
    towers = tf.saved_model.load(str(candidate / "models" / "two_tower"))
    assert set(ranker.signatures) == {"rank", "rank_packed", "recommend", "serving_default"}
    assert set(towers.signatures) == {"embed_user", "embed_user_packed", "embed_item", "serving_default"}
    _, inputs = ranker.signatures["rank"].structured_input_signature
    assert set(inputs) == {*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS}
    assert set(towers.signatures["serving_default"].structured_input_signature[1]) == set(USER_TENSORS)
    encoder = Encoder.load(candidate / "encoder.json")
    user = encoder.encode([{"user.user_id": "never seen"}], USER_TENSORS)
    items = encoder.encode([{"item.item_key": f"m{n}"} for n in range(5)], (*ITEM_TENSORS, *STATS_TENSORS))
    scores = ranker.signatures["rank"](**{name: tf.constant(value) for name, value in (user | items).items()})["scores"]
    assert scores.shape == (5, 2)
    assert ((scores.numpy() > 0) & (scores.numpy() < 1)).all()


def test_another_model_in_the_same_folder_is_noticed(
    candidate: Path, samples: SmallSamples, quick: TrainingConfig
) -> None:
    data = prepare(samples, train_share=0.8)
    other = signatures_of(TwoTower(data.encoder, quick.two_tower))
    with pytest.raises(UnreadableExport, match="differs from the trained model"):
        verify_export(candidate / "models" / "two_tower", other, data.tensors)


def test_a_model_file_that_is_not_one_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "two_tower"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"nothing")
    with pytest.raises(UnreadableExport, match="does not load"):
        load_scorers(tmp_path)


def test_a_candidate_is_not_measured_on_what_it_was_trained_on(candidate: Path, samples: SmallSamples) -> None:
    manifest: Manifest = read_manifest(candidate)
    refuse_seen(manifest, prepare(samples, train_share=0.8))
    with pytest.raises(SeenInTraining, match="demo-7 was trained on samples up to"):
        refuse_seen(manifest, prepare(samples, train_share=0.5))
