"""Classify, Regress and MultiInference on serialized examples: results, the shared context, refusals in upstream's words."""

from typing import Any

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, regression_pb2

from stack.model_server.errors import ServingError
from stack.model_server.inference import Terms, classify, multi_infer, regress
from stack.model_server.servable import Servable
from tests.stack.saved_models import CLASSIFY, REGRESS, write_examples


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    return Servable(write_examples(tmp_path_factory.mktemp("examples"), 7), name="m", version=7)


def example(**features: float) -> tf.train.Example:
    out = tf.train.Example()
    for name, value in features.items():
        out.features.feature[name].float_list.value.append(value)
    return out


def listed(*examples: tf.train.Example) -> input_pb2.Input:
    return input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples))


TWO = listed(example(x=2.0), example(x=4.0, shift=1.0))


def asking(kind: Any, *, signature: str = "", given: input_pb2.Input = TWO) -> Any:
    request = kind(input=given)
    request.model_spec.name = "m"
    request.model_spec.signature_name = signature
    return request


def regression(**more: Any) -> Any:
    return asking(regression_pb2.RegressionRequest, **more)


def classification(**more: Any) -> Any:
    return asking(classification_pb2.ClassificationRequest, **more)


def task(signature: str, method: str, name: str = "m") -> inference_pb2.InferenceTask:
    out = inference_pb2.InferenceTask(method_name=method)
    out.model_spec.name = name
    out.model_spec.signature_name = signature
    return out


def numbers(result: regression_pb2.RegressionResult) -> list[float]:
    return [row.value for row in result.regressions]


def classes(result: classification_pb2.ClassificationResult) -> list[list[tuple[str, float]]]:
    return [[(one.label, one.score) for one in row.classes] for row in result.classifications]


@pytest.mark.parametrize("signature", ["", "flat"])
def test_a_regression_is_one_number_an_example(model: Servable, signature: str) -> None:
    response = regress(regression(signature=signature), model)
    assert numbers(response.result) == [1.0, 3.0]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 7, signature or "serving_default")


def test_a_classification_has_labels_and_scores(model: Servable) -> None:
    response = classify(classification(signature="classify"), model)
    assert classes(response.result) == [[("low", -1.0), ("high", 1.0)], [("low", -3.0), ("high", 3.0)]]


@pytest.mark.parametrize(("signature", "row"), [("labels", [("low", 0), ("high", 0)]), ("scores", [("", -1), ("", 1)])])
def test_what_a_classification_does_not_have_stays_empty(
    model: Servable, signature: str, row: list[tuple[str, float]]
) -> None:
    given = listed(example(x=2.0))
    assert classes(classify(classification(signature=signature, given=given), model).result) == [row]


def test_the_context_is_part_of_every_example_and_the_example_wins(model: Servable) -> None:
    given = input_pb2.Input()
    given.example_list_with_context.context.CopyFrom(example(x=8.0, shift=10.0))
    given.example_list_with_context.examples.extend([example(), example(x=2.0)])
    assert numbers(regress(regression(given=given), model).result) == [14.0, 11.0]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (regression(signature="s"), "INVALID_ARGUMENT", "No signature was found with the name: s"),
        (regression(given=input_pb2.Input()), "INVALID_ARGUMENT", "Input is empty."),
        (regression(given=listed()), "INVALID_ARGUMENT", "Input is empty."),
        (regression(signature="classify"), "INVALID_ARGUMENT", "Expected one output Tensor."),
        (regression(signature="scores"), "FAILED_PRECONDITION", "No regression outputs found in SignatureDef: "),
        (regression(signature="wide"), "INVALID_ARGUMENT",
         "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"),
        (regression(signature="once"), "INVALID_ARGUMENT", "Input batch size did not match output batch size: 2 vs. 1"),
        (regression(signature="words"), "INVALID_ARGUMENT", "Expected output Tensor of DT_FLOAT.  Got: DT_STRING"),
        (classification(signature="s"), "INVALID_ARGUMENT", "No signature was found with the name: s"),
        (classification(signature="neither"), "FAILED_PRECONDITION",
         'Expected classification signature outputs to contain at least one of "classes" or "scores". Signature was: '),
        (classification(signature="column"), "INVALID_ARGUMENT",
         "Expected Tensor shape: [batch_size num_classes] but got [2]"),
        (classification(signature="numbers"), "INVALID_ARGUMENT", "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_in_upstreams_words(
    model: Servable, request_: Any, code: str, words: str
) -> None:
    work = regress if isinstance(request_, regression_pb2.RegressionRequest) else classify
    with pytest.raises(ServingError) as caught:
        work(request_, model)
    assert caught.value.code is grpc.StatusCode[code]
    assert caught.value.message.startswith(words)


@pytest.mark.parametrize(
    ("work", "request_", "words"),
    [
        (classify, classification(),
         f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}"),
        (regress, regression(signature="scores"),
         f"Expected regression signature method_name to be {REGRESS}. Was: {CLASSIFY}"),
    ],
)  # fmt: skip
def test_the_method_name_counts_only_when_it_is_to_be_checked(
    model: Servable, work: Any, request_: Any, words: str
) -> None:
    with pytest.raises(ServingError) as unchecked:
        work(request_, model)
    assert words not in unchecked.value.message
    with pytest.raises(ServingError) as caught:
        work(request_, model, Terms(check_method=True))
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode.INVALID_ARGUMENT, words)


def test_many_signatures_answer_from_one_run(model: Servable, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[list[str]] = []
    run = model.run_tensors
    monkeypatch.setattr(
        model,
        "run_tensors",
        lambda feeds, fetches, **more: (runs.append(list(fetches)), run(feeds, fetches, **more))[1],
    )
    request = inference_pb2.MultiInferenceRequest(tasks=[task("", REGRESS), task("classify", CLASSIFY)], input=TWO)
    first, second = multi_infer(request, model).results
    assert numbers(first.regression_result) == [1.0, 3.0]
    assert classes(second.classification_result)[1] == [("low", -3.0), ("high", 3.0)]
    assert (first.model_spec.signature_name, second.model_spec.version.value) == ("serving_default", 7)
    assert [len(fetches) for fetches in runs] == [3]


@pytest.mark.parametrize(
    ("tasks", "code", "words"),
    [
        ([task("", REGRESS), task("flat", REGRESS, "other")], "INVALID_ARGUMENT",
         "All ModelSpecs in a MultiInferenceRequest must access the same model name."),
        ([task("", REGRESS), task("", REGRESS)], "INVALID_ARGUMENT",
         "Duplicate evaluation of signature: serving_default"),
        ([task("", REGRESS), task("flat", REGRESS, "")], "INVALID_ARGUMENT",
         "Found ModelSpec with an empty model name."),
        ([task("s", REGRESS)], "INVALID_ARGUMENT", "Requested signature not found in model graph: s"),
        ([task("", "tensorflow/serving/predict")], "UNIMPLEMENTED",
         "Unsupported signature method_name: tensorflow/serving/predict"),
        ([task("", REGRESS), task("elsewhere", REGRESS)], "INVALID_ARGUMENT",
         "Input tensor must be the same for all Signatures."),
    ],
)  # fmt: skip
def test_tasks_that_do_not_go_together_are_refused(model: Servable, tasks: Any, code: str, words: str) -> None:
    with pytest.raises(ServingError) as caught:
        multi_infer(inference_pb2.MultiInferenceRequest(tasks=tasks, input=TWO), model)
    assert (caught.value.code, caught.value.message) == (grpc.StatusCode[code], words)
