"""What exported models serve beyond named tensors: packed requests, and recommendations for clients without an encoder."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.encoder import ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder
from features.packing import Packing, packing_of
from serving.errors import ModelUnavailable
from serving.tf_serving import TfServing
from settings import Settings
from stack.parts import Parts
from tests.training.conftest import SmallSamples
from training.data import Prepared, prepare
from training.errors import AuditOnlyInput, UnreadableExport
from training.export import export_model, load_model, verify_export
from training.pipeline import TrainingConfig
from training.ranking import Ranker, train_ranker
from training.recommend import Recommend, raw_inputs
from training.serving_signatures import Signature, inputs_of, refuse_audit_only, signatures_of
from training.shelf import Shelf
from training.tf import tf
from training.two_tower import TwoTower, train_two_tower

IDS = tuple(f"m{n}" for n in range(30))
LIVE = ("m0", "m1", "m2")


@pytest.fixture(scope="module")
def data(samples: SmallSamples) -> Prepared:
    return prepare(samples, train_share=0.8)


@pytest.fixture(scope="module")
def ranker(data: Prepared, quick: TrainingConfig) -> Ranker:
    return train_ranker(data, replace(quick.ranker, max_steps=60, round_steps=30), seed=1).model


@pytest.fixture(scope="module")
def towers(data: Prepared, quick: TrainingConfig) -> TwoTower:
    return train_two_tower(data, replace(quick.two_tower, max_steps=40, round_steps=20), seed=1).model


@pytest.fixture(scope="module")
def packing(data: Prepared) -> Packing:
    return packing_of(data.encoder.config)


@pytest.fixture(scope="module")
def recommend(data: Prepared, ranker: Ranker, packing: Packing, samples: SmallSamples) -> Recommend:
    known = {row["item.item_key"]: row for row in samples.features}
    shelf = Shelf(IDS, [known[one] for one in IDS], np.array([one in LIVE for one in IDS]))
    viewer = samples.features[-1]
    return Recommend(ranker, data.encoder, shelf, packing=packing, weights=[1.0, 2.0], viewer=viewer)


@pytest.fixture(scope="module")
def folder(
    ranker: Ranker, packing: Packing, recommend: Recommend, data: Prepared, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("models") / "ranker"
    export_model(out, ranker, data.tensors, signatures=(*signatures_of(ranker, packing), recommend))
    return out


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Any:
    return load_model(folder)


def ask(loaded: Any, candidates: list[str], k: int, viewer: dict[str, Any]) -> list[tuple[str, float]]:
    inputs = {name: tf.constant(value) for name, value in viewer.items()}
    ids = tf.constant(candidates, tf.string, shape=(len(candidates),))
    out = loaded.signatures["recommend"](**inputs, candidate_ids=ids, k=tf.constant(k, tf.int64))
    return list(zip((one.decode() for one in out["item_ids"].numpy()), out["scores"].numpy().tolist(), strict=True))


@pytest.fixture
def viewer(data: Prepared, samples: SmallSamples) -> dict[str, Any]:
    return raw_inputs(data.encoder, samples.features[-1])


def test_packed_ranks_as_named_tensors_do(loaded: Any, data: Prepared, packing: Packing) -> None:
    items = {name: data.tensors[name][:50] for name in (*ITEM_TENSORS, *STATS_TENSORS)}
    user = {name: data.tensors[name][-1:] for name in USER_TENSORS}
    packed = packing.pack_user(user) | packing.pack_items(items)
    named = loaded.signatures["rank"](**{n: tf.constant(v) for n, v in (user | items).items()})["scores"].numpy()
    got = loaded.signatures["rank_packed"](**{n: tf.constant(v) for n, v in packed.items()})["scores"].numpy()
    np.testing.assert_allclose(got, named, atol=1e-5)
    assert got.shape == (50, 2)
    assert got.std(axis=0).min() > 1e-3


def test_a_packed_viewer_is_embedded_as_a_named_one(
    towers: TwoTower, packing: Packing, data: Prepared, tmp_path: Path
) -> None:
    export_model(tmp_path, towers, data.tensors, signatures=signatures_of(towers, packing))
    user = {name: data.tensors[name][-3:] for name in USER_TENSORS}
    served = load_model(tmp_path).signatures
    got = served["embed_user_packed"](**{n: tf.constant(v) for n, v in packing.pack_user(user).items()})["embedding"]
    np.testing.assert_allclose(got.numpy(), towers.user({n: tf.constant(v) for n, v in user.items()}), atol=1e-5)


def test_columns_in_another_order_are_noticed(folder: Path, ranker: Ranker, packing: Packing, data: Prepared) -> None:
    numbers = dict(packing.arrays["item_num"])
    first, last = numbers["item_static"], numbers["cross_num"]
    shifted = {
        "item_static": first._replace(begin=last.end - 1, end=last.end),
        "cross_num": last._replace(begin=0, end=7),
    }
    other = Packing({**packing.arrays, "item_num": numbers | shifted})
    with pytest.raises(UnreadableExport, match=r"'rank_packed' reloaded from .* differs from the trained model"):
        verify_export(folder, signatures_of(ranker, other), data.tensors)


def by_formula(
    ranker: Ranker, data: Prepared, samples: SmallSamples, *, viewer: Mapping[str, Any], candidates: list[str]
) -> list[tuple[str, float]]:
    """Candidates with click + 2 x like, best first, by the encoder and the trained model."""
    known = {row["item.item_key"]: row for row in samples.features}
    tensors = data.encoder.encode([known[one] for one in candidates], (*ITEM_TENSORS, *STATS_TENSORS))
    tensors |= data.encoder.encode([viewer] * len(candidates), USER_TENSORS)
    click, like = ranker.probabilities({n: tf.constant(v) for n, v in tensors.items()}).numpy().T
    return sorted(zip(candidates, (click + 2.0 * like).tolist(), strict=True), key=lambda one: -one[1])


def test_recommended_are_the_best_of_the_candidates_by_the_formula(
    loaded: Any, ranker: Ranker, data: Prepared, samples: SmallSamples, viewer: dict[str, Any]
) -> None:
    candidates = ["m7", "m3", "m12", "m21"]
    want = by_formula(ranker, data, samples, viewer=samples.features[-1], candidates=candidates)[:3]
    got = ask(loaded, candidates, 3, viewer)
    assert [item for item, _ in got] == [item for item, _ in want]
    np.testing.assert_allclose([score for _, score in got], [score for _, score in want], atol=1e-5)


def test_without_candidates_the_rooms_live_at_the_export_are_recommended(loaded: Any, viewer: dict[str, Any]) -> None:
    assert {item for item, _ in ask(loaded, [], 10, viewer)} == set(LIVE)


def test_unknown_candidates_are_left_out_and_none_comes_twice(loaded: Any, viewer: dict[str, Any]) -> None:
    assert sorted(item for item, _ in ask(loaded, ["m4", "gone", "m4", "m9", ""], 10, viewer)) == ["m4", "m9"]
    assert ask(loaded, ["gone"], 10, viewer) == []


@pytest.mark.parametrize(("k", "rows"), [(0, 0), (2, 2), (-1, 0)])
def test_k_bounds_the_answer(loaded: Any, viewer: dict[str, Any], k: int, rows: int) -> None:
    assert len(ask(loaded, ["m4", "m5", "m6"], k, viewer)) == rows


def test_words_and_numbers_are_encoded_as_the_encoder_does(recommend: Recommend, data: Prepared) -> None:
    row = {
        "user.user_id": "u1", "user.preferred_language": "xx", "user.recent_positive": [f"m{n}" for n in range(25)],
        "user.recent_negative": ["m3", "never seen", "m4"], "user.plays": 1e30, "user.satisfaction": -3.0,
    }  # fmt: skip
    want = data.encoder.encode([row], USER_TENSORS)
    for name, given in raw_inputs(data.encoder, row).items():
        np.testing.assert_allclose(recommend._encoded(name, tf.constant(given)), want[name], atol=1e-6, err_msg=name)


def test_no_signature_and_no_encoder_input_is_the_audits(folder: Path, data: Prepared) -> None:
    assert set(inputs_of(folder)) == {"rank", "rank_packed", "recommend", "serving_default"}
    assert inputs_of(folder)["recommend"] == tuple(sorted([*USER_TENSORS, "candidate_ids", "k"]))
    refuse_audit_only(data.encoder, {"ranker": folder})


def test_a_planted_gender_is_refused(folder: Path, data: Prepared, ranker: Ranker, tmp_path: Path) -> None:
    config = data.encoder.config
    words = replace(data.encoder, config=replace(config, words={**config.words, "user_language": "user.gender"}))
    numbers = replace(
        data.encoder, config=replace(config, numbers={**config.numbers, "user_num": {"user.age_band": "linear"}})
    )
    for planted, name in ((words, "user.gender"), (numbers, "user.age_band")):
        with pytest.raises(AuditOnlyInput, match=f"^the encoder reads {name}, which serves the audit alone"):
            refuse_audit_only(planted, {"ranker": folder})
    samples = {**data.tensors, "viewer_gender": data.tensors["user_id"]}
    nosy = Signature("nosy", ("viewer_gender",), "out", lambda x: x["viewer_gender"] + 0)
    export_model(tmp_path, ranker, samples, signatures=(nosy,))
    with pytest.raises(AuditOnlyInput, match=r"^signature nosy of ranker reads viewer_gender, "):
        refuse_audit_only(Encoder(config, {}, {}, {}), {"ranker": tmp_path})


@pytest.fixture(scope="module")
def served(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the stack's model server, which serves the exported ranker."""
    settings = Settings(var=tmp_path_factory.mktemp("var"))
    shutil.copytree(folder, settings.models / "ranker" / "1")
    with Parts.with_free_ports(settings) as stack:
        stack.up(["model-server"], report=lambda _: None)
        client, deadline = TfServing(stack.settings.model_server), time.monotonic() + 120
        while not any(version.state == "AVAILABLE" for version in statuses(client)):
            assert time.monotonic() < deadline, "the model server did not serve the ranker in time"
            time.sleep(0.2)
        client.close()
        yield stack.settings.model_server


def statuses(client: TfServing) -> list[Any]:
    try:
        return client.status("ranker")
    except ModelUnavailable:
        return []


def run_example(address: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The example, from a folder where nothing of ours can be imported."""
    example = Path(__file__).resolve().parents[2] / "docs" / "examples" / "stock_client.py"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(example), "--address", address, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parts
def test_a_stock_client_gets_ids_and_scores_from_the_real_server(
    served: str, ranker: Ranker, data: Prepared, samples: SmallSamples, tmp_path: Path
) -> None:
    viewer = {
        "user.user_id": "u7", "user.preferred_language": "en", "user.preferred_content_type": "VIDEO",
        "user.top_categories_7d": ["tag1"], "user.recent_positive": ["m9", "m17"], "user.recent_negative": ["m2"],
    }  # fmt: skip
    said = (
        "--user-id u7 --language en --content-type VIDEO --categories tag1 --liked m9 m17 --refused m2 "
        "--candidates m1 m2 m3 gone m25 -k 3"
    )
    done = run_example(served, *said.split(), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    got = [line.split("\t") for line in done.stdout.splitlines()]
    want = by_formula(ranker, data, samples, viewer=viewer, candidates=["m1", "m2", "m3", "m25"])[:3]
    assert [item for _, item in got] == [item for item, _ in want]
    np.testing.assert_allclose([float(score) for score, _ in got], [score for _, score in want], atol=2e-5)
    refused = run_example(served, "--model", "none-such", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("NOT_FOUND: Servable not found for request")


@pytest.mark.parts
def test_the_proxys_client_ranks_packed_on_the_real_server(
    served: str, ranker: Ranker, data: Prepared, packing: Packing
) -> None:
    items = {name: data.tensors[name][:20] for name in (*ITEM_TENSORS, *STATS_TENSORS)}
    user = {name: data.tensors[name][-1:] for name in USER_TENSORS}
    packed = packing.pack_user(user) | packing.pack_items(items)
    got = TfServing(served).predict("ranker", packed, version=1, signature="rank_packed", timeout_s=10.0)["scores"]
    repeated = {name: np.repeat(value, 20, axis=0) for name, value in user.items()}
    want = ranker.probabilities({n: tf.constant(v) for n, v in (repeated | items).items()}).numpy()
    np.testing.assert_allclose(got, want, atol=1e-5)
