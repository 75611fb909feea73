"""Warm-up records against TensorFlow's own reader, its published messages, and a model server that replays them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import prediction_log_pb2

from release.warmup import FILE, Input, log_of, record, signatures_in, write_warmup
from stack.model_server.servable import Servable
from stack.model_server.warmup import replay


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with one signature of numbers and words, and one whose sizes are all fixed."""
    folder = tmp_path_factory.mktemp("models") / "ranker" / "7"
    specs = {
        "words": tf.TensorSpec([None], tf.string, name="words"), "k": tf.TensorSpec([], tf.int64, name="k"),
        "numbers": tf.TensorSpec([None, 3], tf.float32, name="numbers"),
        "ids": tf.TensorSpec([None, 2], tf.int32, name="ids"),
    }  # fmt: skip

    def mixed(**given: Any) -> dict[str, Any]:
        rows = tf.cast(tf.strings.length(given["words"]), tf.float32) + tf.reduce_sum(given["numbers"], 1)
        return {"out": rows + tf.cast(tf.reduce_sum(given["ids"], 1), tf.float32) + tf.cast(given["k"], tf.float32)}

    fixed = tf.function(lambda x: {"out": x * 2.0}).get_concrete_function(tf.TensorSpec([2], tf.float32, name="x"))
    concrete = tf.function(mixed).get_concrete_function(**specs)
    tf.saved_model.save(tf.Module(), str(folder), signatures={"mixed": concrete, "fixed": fixed})
    return folder


@pytest.fixture
def model(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ranker" / "7"))


def logs(path: Path) -> list[Any]:
    """The records as TensorFlow reads them, checksums and all."""
    records = tf.compat.v1.io.tf_record_iterator(str(path))
    return [prediction_log_pb2.PredictionLog.FromString(one) for one in records]


def test_the_signatures_are_those_that_tensorflow_reads(model: Path) -> None:
    assert signatures_in((model / "saved_model.pb").read_bytes()) | {"__saved_model_init_op": {}} == {
        "mixed": {
            "words": Input(types_pb2.DT_STRING, (-1,)), "k": Input(types_pb2.DT_INT64, ()),
            "numbers": Input(types_pb2.DT_FLOAT, (-1, 3)), "ids": Input(types_pb2.DT_INT32, (-1, 2)),
        },
        "fixed": {"x": Input(types_pb2.DT_FLOAT, (2,))},
        "__saved_model_init_op": {},
    }  # fmt: skip


def test_every_signature_is_asked_with_one_row_and_with_a_feeds_candidates(model: Path) -> None:
    assert write_warmup(model) == 3
    requests = [log.predict_log.request for log in logs(model / FILE)]
    assert [(one.model_spec.name, one.model_spec.signature_name) for one in requests] == [
        ("ranker", "fixed"), ("ranker", "mixed"), ("ranker", "mixed")
    ]  # fmt: skip
    shapes = [{name: tf.make_ndarray(tensor).shape for name, tensor in one.inputs.items()} for one in requests]
    assert shapes == [
        {"x": (2,)},
        {"words": (1,), "k": (), "numbers": (1, 3), "ids": (1, 2)},
        {"words": (500,), "k": (), "numbers": (500, 3), "ids": (500, 2)},
    ]
    assert not any(tf.make_ndarray(tensor).any() for one in requests for tensor in one.inputs.values())


def test_the_model_server_replays_them_all(model: Path) -> None:
    write_warmup(model)
    servable = Servable(model, name="ranker", version=7)
    try:
        assert replay(servable, model) == 3
    finally:
        servable.close()


def test_a_record_is_refused_by_tensorflow_when_a_bit_of_it_flips(tmp_path: Path) -> None:
    body = bytearray(record(log_of("ranker", "rank", {"x": Input(1, (-1,))}, rows=2)))
    (tmp_path / "good").write_bytes(body)
    assert len(logs(tmp_path / "good")) == 1
    body[14] ^= 1
    (tmp_path / "bad").write_bytes(body)
    with pytest.raises(tf.errors.DataLossError):
        logs(tmp_path / "bad")


def test_requests_that_came_with_the_export_are_kept(model: Path) -> None:
    (model / FILE).parent.mkdir()
    (model / FILE).write_bytes(b"its own")
    assert write_warmup(model) == 0
    assert (model / FILE).read_bytes() == b"its own"


def test_what_is_no_saved_model_gets_none(model: Path) -> None:
    (model / "saved_model.pb").write_bytes(b"ranker 1")
    assert write_warmup(model) == 0
    assert not (model / FILE).parent.exists()
