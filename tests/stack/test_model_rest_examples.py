"""JSON of REST classify and regress: which features an example gets, what is refused, how results are written."""

from typing import Any

import pytest
from tensorflow_serving.apis import classification_pb2, input_pb2, regression_pb2

from stack.model_server.errors import ServingError
from stack.model_server.json_examples import classifications, read_examples, regressions


def example_input(document: dict[str, Any]) -> Any:
    message = input_pb2.Input()
    read_examples(document, message)
    return message


def test_examples_take_their_feature_kinds_from_json_types() -> None:
    row = {"f": 1.5, "i": [1, True], "s": ["a", {"b64": "/w=="}], "none": []}
    feature = example_input({"examples": [row]}).example_list.examples[0].features.feature
    assert list(feature["f"].float_list.value) == [1.5]
    assert list(feature["i"].int64_list.value) == [1, 1]
    assert list(feature["s"].bytes_list.value) == [b"a", b"\xff"]
    assert feature["none"].WhichOneof("kind") is None


def test_a_context_goes_beside_the_examples() -> None:
    message = example_input({"context": {"c": 1}, "examples": [{"f": 1.5}, {"f": 2.5}]}).example_list_with_context
    assert list(message.context.features.feature["c"].int64_list.value) == [1]
    assert [list(row.features.feature["f"].float_list.value) for row in message.examples] == [[1.5], [2.5]]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"x": None}]}, "Feature: x has element with unexpected JSON type: Null"),
        ({"examples": [{"x": [[1]]}]}, "Feature: x has element with unexpected JSON type: Array"),
        ({"examples": [{"x": {"y": 1}}]}, "Feature: x has element with unexpected JSON type: Object"),
        ({"examples": [{"x": [1, 1.5]}]}, "Unexpected element type in feature: x expecting type: int64"),
        ({"examples": [{"x": [1.5, "a"]}]}, "Unexpected element type in feature: x expecting type: float"),
        ({"examples": [{"x": ["a", 1]}]}, "Unexpected element type in feature: x expecting type: bytes"),
        ({"examples": [{"x": 2**63}]}, "Feature: x has uint64 element. Only int64 is supported."),
        ({"examples": [{"x": 1e39}]}, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
    ],
)
def test_examples_that_are_none_say_which_feature_and_why(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ServingError) as caught:
        example_input(document)
    assert caught.value.message.endswith(words)


def test_classifications_are_pairs_of_label_and_score_for_every_example() -> None:
    result = classification_pb2.ClassificationResult()
    for scores in ((0.5, 1.0), (0.25, 0.75)):
        row = result.classifications.add()
        for label, score in zip(("no", ""), scores, strict=True):
            row.classes.add(label=label, score=score)
    text = '{\n    "results": [[["no", 0.5], ["", 1.0]], [["no", 0.25], ["", 0.75]]\n    ]\n}'
    assert classifications(result) == text


def test_regressions_are_plain_numbers() -> None:
    result = regression_pb2.RegressionResult(regressions=[regression_pb2.Regression(value=v) for v in (3.0, 4.5)])
    assert regressions(result) == '{\n    "results": [3.0, 4.5]\n}'
