"""What happens between a version's folder and its first answer: warm-up records, and exports that do not load."""

from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from stack.model_server.errors import ServingError
from stack.model_server.loading import LoadOptions, loader
from stack.model_server.observer import QUIET, Quiet
from stack.model_server.servable import Servable
from stack.model_server.warmup import FILE, replay
from tests.stack.saved_models import REGRESS, write_examples, write_line

Log = prediction_log_pb2.PredictionLog


class Memory(Quiet):
    """Remembers warm-ups and runs."""

    def __init__(self) -> None:
        self.warmups: list[tuple[str, str]] = []

    def warmup(self, path: str, status: str, *, seconds: float) -> None:
        self.warmups.append((path, status))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("exported")
    write_line(base, 1)
    return base


@pytest.fixture(scope="module")
def line(exported: Path) -> Servable:
    return Servable(exported / "1", name="line", version=1)


@pytest.fixture(scope="module")
def of_examples(exported: Path) -> Servable:
    return Servable(write_examples(exported, 2), name="line", version=2)


@pytest.fixture
def runs(line: Servable, of_examples: Servable, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every run."""
    seen: list[int] = []
    for model in (line, of_examples):
        real = model.run_tensors

        def run(feeds, fetches, *, timeout_s=None, real=real):  # type: ignore[no-untyped-def]
            seen.append(len(next(iter(feeds.values()))))
            return real(feeds, fetches, timeout_s=timeout_s)

        monkeypatch.setattr(model, "run_tensors", run)
    return seen


def predicting(*values: float, key: str = "x") -> bytes:
    log = Log()
    log.predict_log.request.model_spec.name = "line"
    log.predict_log.request.inputs[key].CopyFrom(tf.make_tensor_proto(list(values), tf.float32))
    return bytes(log.SerializeToString())


def on_examples(rows: int) -> list[bytes]:
    """A classify, a regress and a multi-inference record on so many examples."""
    classify, regress, multi = Log(), Log(), Log()
    classify.classify_log.request.model_spec.signature_name = "classify"
    for request in (classify.classify_log.request, regress.regress_log.request, multi.multi_inference_log.request):
        for _ in range(rows):
            request.input.example_list.examples.add()
    task = multi.multi_inference_log.request.tasks.add(method_name=REGRESS)
    task.model_spec.name = "line"
    return [bytes(log.SerializeToString()) for log in (classify, regress, multi)]


def write(folder: Path, *records: bytes) -> Path:
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / FILE)) as out:
        for record in records:
            out.write(record)
    return folder


def refusal(work: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(ServingError) as caught:
        work()
    return caught.value.code, caught.value.message


def test_every_record_is_replayed_as_often_as_asked(line: Servable, runs: list[int], tmp_path: Path) -> None:
    folder = write(tmp_path, predicting(1.0), predicting(1.0, 2.0, 3.0))
    observer = Memory()
    assert replay(line, folder, times=2, observer=observer) == 2
    assert runs == [1, 1, 3, 3]
    assert observer.warmups == [(str(folder), "OK")]


def test_records_of_classify_regress_and_multi_inference_are_run(
    of_examples: Servable, runs: list[int], tmp_path: Path
) -> None:
    assert replay(of_examples, write(tmp_path, *on_examples(4))) == 3
    assert runs == [4, 4, 4]


def test_without_a_file_or_with_an_empty_one_nothing_is_run(line: Servable, runs: list[int], tmp_path: Path) -> None:
    assert replay(line, tmp_path) == 0
    assert replay(line, write(tmp_path)) == 0
    assert runs == []


@pytest.mark.parametrize("kind", ["session_run_log", "predict_streamed_log"])
def test_kinds_of_records_that_are_not_replayed_say_so(line: Servable, tmp_path: Path, kind: str) -> None:
    log = Log()
    getattr(log, kind).SetInParent()
    code, words = refusal(lambda: replay(line, write(tmp_path, log.SerializeToString())))
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert words.startswith("Unsupported log_type for warmup: ")


def test_a_record_that_is_no_message_is_refused(line: Servable, tmp_path: Path) -> None:
    code, words = refusal(lambda: replay(line, write(tmp_path, b"\xff\xff")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("Failed to parse warmup record: ")


def test_a_file_that_holds_no_records_is_refused(line: Servable, tmp_path: Path) -> None:
    (write(tmp_path) / FILE).write_bytes(b"these are not records at all")
    code, words = refusal(lambda: replay(line, tmp_path))
    assert code is grpc.StatusCode.DATA_LOSS
    assert words.endswith("Please verify your warmup data is in TFRecord format.")


def test_a_thousand_records_are_the_most(line: Servable, tmp_path: Path) -> None:
    nothing = Log().SerializeToString()
    assert replay(line, write(tmp_path, *[nothing] * 1000)) == 1000
    file = write(tmp_path, *[nothing] * 1001) / FILE
    assert refusal(lambda: replay(line, tmp_path)) == (
        grpc.StatusCode.INVALID_ARGUMENT, f"Number of warmup records exceeds the maximum (1000) at {file}",
    )  # fmt: skip


def test_a_failing_record_fails_the_load_and_is_observed(exported: Path) -> None:
    folder = write_line(exported, 5)
    write(folder, predicting(1.0, key="q"))
    observer = Memory()
    code, words = refusal(lambda: loader(LoadOptions(), observer)(folder, "line", 5))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words.startswith("input tensor alias not found in signature: q.")
    assert observer.warmups == [(str(folder), f"INVALID_ARGUMENT: {words}")]


def test_without_warm_up_a_failing_record_harms_nobody(exported: Path) -> None:
    folder = write_line(exported, 6)
    write(folder, predicting(1.0, key="q"))
    servable = loader(LoadOptions(enable_model_warmup=False), QUIET)(folder, "line", 6)
    assert servable.close()


def test_a_folder_without_a_graph_is_refused_in_the_loaders_words(tmp_path: Path) -> None:
    assert refusal(lambda: Servable(tmp_path, name="m", version=1)) == (
        grpc.StatusCode.NOT_FOUND,
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}. Check that the directory "
        "exists and that you have the right permissions for accessing it.",
    )


def test_a_graph_that_is_none_is_refused_in_the_loaders_words(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"not a graph")
    code, words = refusal(lambda: Servable(tmp_path, name="m", version=1))
    assert code is grpc.StatusCode.DATA_LOSS
    assert words.startswith(f"Can't parse {tmp_path / 'saved_model.pb'} as binary proto")


def test_a_model_without_the_tags_asked_for_is_refused_in_the_loaders_words(exported: Path) -> None:
    code, words = refusal(lambda: Servable(exported / "1", name="m", version=1, tags=("gpu",)))
    assert code is grpc.StatusCode.NOT_FOUND
    assert words.startswith("Could not find meta graph def matching supplied tags: { gpu }.")


def test_a_closed_model_waits_for_whoever_holds_it(exported: Path) -> None:
    model = Servable(exported / "1", name="m", version=1)
    assert model.hold()
    assert not model.close(wait_s=0.0)
    assert not model.hold()
    model.let_go()
    assert model.close(wait_s=0.0)
