"""JSON of the REST API: what is read as which tensor, what is refused in which words, and how tensors are written."""

import base64
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorflow.core.framework import types_pb2 as t

from stack.model_server.errors import ServingError
from stack.model_server.json_tensor import Format, read_feeds, signature_name, tensor, write_outputs
from stack.model_server.json_text import Scanner, parse_object

F, D, I32, I64, S, B = t.DT_FLOAT, t.DT_DOUBLE, t.DT_INT32, t.DT_INT64, t.DT_STRING, t.DT_BOOL


def refusal(body: str | bytes, **inputs: int) -> str:
    """What a predict request for these inputs is refused with, all of it INVALID_ARGUMENT."""
    raw = body if isinstance(body, bytes) else body.encode()
    with pytest.raises(ServingError) as caught:
        document = parse_object(raw)
        signature_name(document)
        read_feeds(document, inputs)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    return caught.value.message


def feeds(body: str, **inputs: int) -> dict[str, np.ndarray[Any, Any]]:
    return read_feeds(parse_object(body.encode()), inputs)[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "The document is empty"),
        (" \n\t", "The document is empty. at offset: 3"),
        ("{", "Missing a name for object member. at offset: 1"),
        ('{"a":1,}', "Missing a name for object member. at offset: 7"),
        ('{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        ('{"a":1 "b":2}', "Missing a comma or } after an object member. at offset: 7"),
        ('{"a":[1 2]}', "Missing a comma or ] after an array element. at offset: 8"),
        ('{"a":[1,]}', "Invalid value. at offset: 8"),
        ('{"a":nul}', "Invalid value. at offset: 8"),
        ('{"a":-}', "Invalid value. at offset: 6"),
        ('{"a":Nope}', "Invalid value. at offset: 6"),
        ('{"a":1.}', "Miss fraction part in number. at offset: 7"),
        ('{"a":1e}', "Miss exponent in number. at offset: 7"),
        ('{"a":1e999}', "Number too big to be stored in double. at offset: 5"),
        ('{"a":' + "9" * 400 + "}", "Number too big to be stored in double. at offset: 5"),
        ('{"a":"x', "Missing a closing quotation mark in string. at offset: 7"),
        ('{"a":"\\x"}', "Invalid escape character in string. at offset: 6"),
        ('{"a":"\\u12G4"}', "Incorrect hex digit after \\u escape in string. at offset: 6"),
        ('{"a":"\\ud800"}', "The surrogate pair in string is invalid. at offset: 6"),
        ('{"a":"\\udc00"}', "The surrogate pair in string is invalid. at offset: 6"),
        ('{"a":"\t"}', "Invalid encoding in string. at offset: 6"),
        ("[" * 300, "Nesting is deeper than 256 levels. at offset: 256"),
        ('{"é":é}', "Invalid value. at offset: 6"),
    ],
)
def test_what_is_no_json_is_refused_with_the_place_in_bytes(body: str, words: str) -> None:
    assert refusal(body) == f"JSON Parse error: {words}"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[1]", "JSON Value: [\n    1\n] Is not object"),
        ("1.5", "JSON Value: 1.5 Is not object"),
        ("null", "JSON Value: null Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances":[1],"inputs":[1]}', "Not formatted correctly expecting only one of 'inputs' or 'instances'"),
        ('{"signature_name":5,"inputs":[1]}', "'signature_name' key must be a string value."),
        ('{"instances":5}', "Excepting 'instances' to be an list/array"),
        ('{"instances":[]}', "No values in 'instances' array"),
    ],
)
def test_a_request_that_is_no_predict_request_says_what_it_lacks(body: str, words: str) -> None:
    assert words in refusal(body, x=F)


def test_text_after_the_object_is_ignored_and_a_byte_order_mark_skipped() -> None:
    assert parse_object(b'\xef\xbb\xbf {"a": 1} and more {') == {"a": 1}


def test_infinities_and_nan_are_numbers_and_rapidjsons_short_infinity_too() -> None:
    found = parse_object(b'{"a":[NaN,Infinity,-Infinity,Inf,-Inf]}')["a"]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, -math.inf, math.inf, -math.inf]


def test_a_surrogate_pair_is_one_character() -> None:
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}


@pytest.mark.parametrize(
    ("body", "dtype", "expected"),
    [
        ('{"instances":[1,2.5,-3e2]}', F, np.array([1, 2.5, -300], np.float32)),
        ('{"instances":[[1,2],[3,4]]}', D, np.array([[1, 2], [3, 4]], np.float64)),
        ('{"instances":[1,2]}', I32, np.array([1, 2], np.int32)),
        ('{"instances":[9223372036854775807,-9223372036854775808]}', I64, np.array([2**63 - 1, -(2**63)])),
        ('{"instances":[true,false]}', B, np.array([True, False])),
        ('{"instances":[18446744073709551615]}', t.DT_UINT64, np.array([2**64 - 1], np.uint64)),
        ('{"instances":[4294967295]}', t.DT_UINT32, np.array([2**32 - 1], np.uint32)),
        ('{"instances":[-1,127]}', t.DT_INT8, np.array([-1, 127], np.int8)),
        ('{"instances":["a",{"b64":"AAH/"}]}', S, np.array([b"a", b"\x00\x01\xff"], object)),
        ('{"instances":[{"x":[1]},{"x":[2]}]}', F, np.array([[1], [2]], np.float32)),
        ('{"instances":[[],[]]}', F, np.zeros((2, 0), np.float32)),
        ('{"inputs":[36893488147419103232]}', D, np.array([2.0**65])),
        ('{"inputs":[NaN,36893488147419103232]}', D, np.array([np.nan, 2.0**65])),
        ('{"inputs":[1,2]}', F, np.array([1, 2], np.float32)),
        ('{"inputs":5}', F, np.array(5, np.float32)),
        ('{"inputs":{"b64":"eA=="}}', S, np.array(b"x", object)),
        ('{"inputs":{"x":[[1]]}}', F, np.array([[1]], np.float32)),
        ('{"inputs":[16777215,3.4028234e38]}', F, np.array([16777215, 3.4028234e38], np.float32)),
    ],
)
def test_one_input_may_come_in_any_shape_of_json(body: str, dtype: int, expected: Any) -> None:
    found = feeds(body, x=dtype)["x"]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def test_rows_of_objects_become_one_batch_an_input() -> None:
    found = feeds('{"instances":[{"a":[1,2],"w":"x"},{"w":"y","a":[3,4]}]}', a=F, w=S)
    assert found["a"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert found["w"].tolist() == [b"x", b"y"]


def test_columns_need_no_common_size_and_ignore_names_that_are_no_input() -> None:
    found = feeds('{"inputs":{"a":[1,2,3],"w":"x","other":[1]}}', a=F, w=S)
    assert (found["a"].tolist(), found["w"].tolist(), sorted(found)) == ([1.0, 2.0, 3.0], b"x", ["a", "w"])


def test_bytes_that_are_no_utf8_reach_the_model_unchanged() -> None:
    assert read_feeds(parse_object(b'{"instances":["\xff\xfe"]}'), {"x": S})[0]["x"].tolist() == [b"\xff\xfe"]


ELEMENT = "Failed to process element: 0 of 'instances' list. Error: INVALID_ARGUMENT: "


@pytest.mark.parametrize(
    ("values", "dtype", "words"),
    [
        ("[1.5]", I64, "JSON Value: 1.5 Type: Number is not of expected type: int64"),
        ("[1.0]", I32, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ("[2147483648]", I32, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        ("[9223372036854775808]", I64, "JSON Value: 9223372036854775808 Type: Number is not of expected type: int64"),
        ("[-1]", t.DT_UINT32, "JSON Value: -1 Type: Number is not of expected type: uint32"),
        ("[true]", I64, "JSON Value: true Type: True is not of expected type: int64"),
        ("[false]", F, "JSON Value: false Type: False is not of expected type: float"),
        ("[null]", F, "JSON Value: null Type: Null is not of expected type: float"),
        ('["1"]', F, 'JSON Value: "1" Type: String is not of expected type: float'),
        ("[1]", B, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("[1]", S, "JSON Value: 1 Type: Number is not of expected type: string"),
        ('[{"b64":"eA=="}]', F, "Type: Object is not of expected type: float"),
        ('[{"b64":"!!"}]', S, "Unable to base64 decode"),
        ("[36893488147419103232]", I64, "JSON Value: 3.68934881e+19 Type: Number is not of expected type: int64"),
        ("[16777216]", F, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ("[9007199254740992]", D, "Cannot convert JSON value: 9007199254740992 to double without loss of precision."),
        ("[1e39]", F, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ("[[1],2]", F, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ("[1,[2]]", F, "Encountered list at unexpected level: 1 expected < 1"),
        ("[[1,2],[3]]", F, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
    ],
)
def test_a_value_that_does_not_fit_its_tensor_is_shown_with_its_type(values: str, dtype: int, words: str) -> None:
    assert words in refusal(f'{{"inputs":{values}}}', x=dtype)
    in_rows = refusal(f'{{"instances":[{values}]}}', x=dtype)
    assert in_rows.startswith(ELEMENT)
    assert words in in_rows


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("[1]", "instances is a plain list, but expecting list of objects as multiple input tensors required"),
        ('[{"a":1}]', 'element: 0 of \'instances\' list. JSON object: {\n    "a": 1\n} keys must be equal to: a,b'),
        ('[{"a":1,"b":2,"c":3}]', "element: 0 key: c of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does "
         "not have named input: c"),
        ('[{"a":1,"b":2},[1]]', "Expecting object but got list at item 1 of input list"),
        ('[{"a":1,"b":2},{"a":[1,2],"b":2}]', "element: 1 key: a of 'instances' list. Error: INVALID_ARGUMENT: "
         "Expecting tensor size: 1 but got: 2"),
        ('[{"a":[1,2],"b":2},{"a":[[1,2]],"b":2}]', "Expecting shape [2] but got: [1,2]"),
        ('[{"a":1,"b":"x"}]', "element: 0 key: b of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"x\""),
    ],
)  # fmt: skip
def test_rows_must_be_alike_and_have_exactly_the_inputs(rows: str, words: str) -> None:
    assert words in refusal(f'{{"instances":{rows}}}', a=F, b=F)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"instances":[1,{"x":1}]}', "Expecting value/list but got object at item 1 of input list"),
        ('{"instances":[[1,2],[3]]}', "element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size"),
        ('{"inputs":{"y":[1]}}', "Missing named input: x in 'inputs' object."),
    ],
)
def test_the_one_input_must_be_found_in_every_row_or_by_its_name(body: str, words: str) -> None:
    assert words in refusal(body, x=F)


def test_several_inputs_in_columns_must_be_named() -> None:
    assert refusal('{"inputs":[1]}', a=F, b=F).startswith("inputs is a plain value/list, but expecting an object")


def test_a_type_that_json_cannot_write_is_unimplemented() -> None:
    with pytest.raises(ServingError, match=r"^Conversion of JSON Value: 1.5 to type: half$") as caught:
        tensor([1.5], t.DT_HALF)
    assert caught.value.code.name == "UNIMPLEMENTED"


def test_base64_needs_no_padding_and_may_hold_white_space() -> None:
    assert tensor({"b64": " Ym9v\nazI "}, S).tolist() == b"book2"


def test_sixty_four_nested_lists_are_too_many() -> None:
    assert refusal('{"inputs":' + "[" * 64 + "1" + "]" * 64 + "}", x=F).startswith("Encountered 64 nested lists")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3.0"),
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (9_000_000.0, "9e+06"),
        (0.00003, "3e-05"),
        (0.12345679, "0.123456791"),  # six digits would read back as another float32
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_a_float_has_six_digits_or_as_many_as_it_needs_and_shows_that_it_is_one(value: float, text: str) -> None:
    written = write_outputs({"y": np.array([value], np.float32)}, Format.ROWS)
    assert written == '{\n    "predictions": [' + text + "\n    ]\n}"


def test_a_double_keeps_seventeen_digits() -> None:
    assert "0.12345678901234568" in write_outputs({"y": np.array([0.12345678901234568])}, Format.COLUMNS)


def test_rows_of_one_output_are_bare_and_stay_on_one_line() -> None:
    written = write_outputs({"y": np.array([[1, 2], [3, 4]], np.int32)}, Format.ROWS)
    assert written == '{\n    "predictions": [[1, 2], [3, 4]\n    ]\n}'


def test_rows_of_several_outputs_are_objects() -> None:
    outputs = {"a": np.array([True, False]), "b": np.array([[1.5], [2.0]], np.float32)}
    lines = [
        "{",
        '    "predictions": [',
        "        {",
        '            "a": true,',
        '            "b": [1.5]',
        "        },",
        "        {",
        '            "a": false,',
        '            "b": [2.0]',
        "        }",
        "    ]",
        "}",
    ]
    assert write_outputs(outputs, Format.ROWS).splitlines() == lines


def test_columns_have_a_line_for_every_value_and_one_output_is_bare() -> None:
    written = write_outputs({"y": np.array([1, 2], np.int64)}, Format.COLUMNS)
    assert written.splitlines() == ["{", '    "outputs": [', "        1,", "        2", "    ]", "}"]


def test_several_columns_are_an_object_and_may_be_scalars() -> None:
    written = write_outputs({"a": np.array(1.0, np.float32), "b": np.array([2], np.int64)}, Format.COLUMNS)
    assert json.loads(written) == {"outputs": {"a": 1.0, "b": [2]}}


def test_only_outputs_named_bytes_are_written_as_base64() -> None:
    values = np.array([b"hi", b"\xff\x00"], object)
    written = json.loads(write_outputs({"raw_bytes": values, "text": np.array([b"hi", b"yo"], object)}, Format.ROWS))
    coded = [base64.b64encode(value).decode() for value in (b"hi", b"\xff\x00")]
    assert written == {
        "predictions": [{"raw_bytes": {"b64": coded[0]}, "text": "hi"}, {"raw_bytes": {"b64": coded[1]}, "text": "yo"}]
    }


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"a": np.zeros(2), "b": np.zeros(3)}, "Tensor name: b has inconsistent batch size: 3 expecting: 2"),
        ({"a": np.array(1.0)}, "Tensor name: a has no shape information "),
        ({"a": np.zeros(1, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
        ({}, "Cannot convert empty tensor map to JSON"),
    ],
)
def test_outputs_that_do_not_fit_rows_are_refused(outputs: dict[str, Any], words: str) -> None:
    with pytest.raises(ServingError) as caught:
        write_outputs(outputs, Format.ROWS)
    assert caught.value.message == words


SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=4)
ARRAYS = st.one_of(
    # The very largest float32 is written as a decimal just above it, which reading refuses: upstream has this gap too.
    hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32).filter(lambda v: not 3e38 < abs(v) < math.inf)).map(
        lambda a: (F, a)
    ),
    hnp.arrays(np.float64, SHAPES, elements=st.floats()).map(lambda a: (D, a)),
    hnp.arrays(np.int64, SHAPES).map(lambda a: (I64, a)),
    hnp.arrays(np.uint64, SHAPES).map(lambda a: (t.DT_UINT64, a)),
    hnp.arrays(np.bool_, SHAPES).map(lambda a: (B, a)),
    hnp.arrays(object, SHAPES, elements=st.binary(max_size=6)).map(lambda a: (S, a)),
)


@settings(max_examples=150, deadline=None)
@given(ARRAYS, st.sampled_from(Format), st.sampled_from(["x", "x_bytes"]))
def test_a_tensor_written_and_read_again_is_the_same_tensor(
    typed: tuple[int, np.ndarray[Any, Any]], form: Format, name: str
) -> None:
    dtype, array = typed
    written = write_outputs({name: array}, form).encode("utf-8", "surrogateescape")
    value = next(iter(parse_object(written).values()))
    found = read_feeds({form.value: value}, {name: dtype})[0][name]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3))
def test_the_exact_scanner_reads_what_any_json_writer_wrote(document: dict[str, Any]) -> None:
    assert Scanner(json.dumps(document).encode()).document() == document
    assert parse_object(json.dumps(document, ensure_ascii=False).encode()) == document


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet='{}[]",:\\untrue01.eE-N Iaf', max_size=25))
def test_the_fast_and_the_exact_reading_accept_and_refuse_alike(text: str) -> None:
    def outcome(read: Any) -> str:
        try:
            return repr(read())
        except ServingError as error:
            return error.message

    body = b'{"a":' + text.encode() + b"}"
    assert outcome(lambda: parse_object(body)) == outcome(lambda: Scanner(body).document())
