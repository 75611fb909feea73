"""Contracts: pages are what the code says, take what is sent, refuse what is refused; old events stay readable."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from events import schema as s
from events.contract import breaks, contract, example, file_name, text
from events.errors import MalformedEvent
from events.fields import FIELDS
from events.topics import TOPICS, decode, encode, topic_of

PAGES = Path(__file__).resolve().parents[2] / "docs" / "schemas"
RELEASED = sorted((PAGES / "released").glob("*.json"))
KINDS = [kind for topic in TOPICS.values() for kind in topic.types]


def judge(topic: str) -> Draft202012Validator:
    return Draft202012Validator(contract(topic))


# --- the pages ---


def test_there_is_one_page_a_topic_and_it_is_what_the_code_says() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES.glob("*.json")} == {
        file_name(contract(name)): text(contract(name)) for name in TOPICS
    }


@pytest.mark.parametrize("name", TOPICS)
def test_a_contract_is_itself_a_valid_schema_and_every_event_has_its_key(name: str) -> None:
    page = contract(name)
    Draft202012Validator.check_schema(page)
    types = [page["$defs"][ref.rpartition("/")[2]] for ref in page["discriminator"]["mapping"].values()]
    assert all(page["x-key"] in one["required"] for one in types)


def test_every_word_belongs_to_a_field_that_there_is() -> None:
    holders = {holder.__name__: holder for kind in KINDS for holder in kind.__mro__ if issubclass(holder, s.Event)}
    plain = {field for kind in KINDS for field in kind.__struct_fields__}
    for name in FIELDS:
        holder, _, field = name.rpartition(".")
        assert field in (holders[holder].__struct_fields__ if holder else plain), name


# --- what they take and refuse ---


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_example_of_every_type_is_read_and_what_is_sent_of_it_fits(kind: type[s.Event]) -> None:
    shown = example(kind)
    (name,) = [one.name for one in TOPICS.values() if kind in one.types]
    event = decode(name, json.dumps(shown).encode())
    assert type(event) is kind
    for sent in (shown, json.loads(encode(event))):
        assert list(judge(topic_of(event).name).iter_errors(sent)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_type_with_its_required_fields_alone_is_taken_by_both(kind: type[s.Event]) -> None:
    (name,) = [one.name for one in TOPICS.values() if kind in one.types]
    required = contract(name)["$defs"][kind.__name__]["required"]
    least = {field: value for field, value in example(kind).items() if field in required}
    assert type(decode(name, json.dumps(least).encode())) is kind
    assert judge(name).is_valid(least)


GIFT = {
    "type": "gift_sent", "event_id": "e1", "event_at": "2026-11-01T18:00:00Z", "user_id": "vera", "room_id": "r1",
    "streamer_id": "anna", "amount": 5,
}  # fmt: skip
WRONG = {
    "a field that is not declared": {"colour": "red"},
    "a type of another topic": {"type": "media_removed"},
    "a number for an id": {"user_id": 17},
    "an id of 129 characters": {"user_id": "x" * 129},
    "an empty id": {"user_id": ""},
    "null for a required id": {"user_id": None},
    "a gift worth nothing": {"amount": 0},
    "words for a number": {"amount": "5"},
    "a surface that there is not": {"surface": "kitchen"},
    "a version that there is not": {"schema_v": 2},
    "a time without its offset": {"event_at": "2026-11-01T18:00:00"},
    "a day without a time": {"event_at": "2026-11-01"},
    "a time in seconds": {"event_at": 1793556000},
    "a 25th hour": {"event_at": "2026-11-01T24:00:00Z"},
    "an offset without minutes": {"event_at": "2026-11-01T18:00:00+09"},
}


def both(event: dict[str, Any], topic: str = "user.engagement.events") -> tuple[bool, bool]:
    """Whether the contract and the reader take it."""
    try:
        decode(topic, json.dumps(event).encode())
    except MalformedEvent:
        return judge(topic).is_valid(event), False
    return judge(topic).is_valid(event), True


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_contract_and_reader_refuse(change: dict[str, Any]) -> None:
    assert both(GIFT) == (True, True)
    assert both(GIFT | change) == (False, False)


@pytest.mark.parametrize("field", list(GIFT))
def test_contract_and_reader_refuse_an_event_without(field: str) -> None:
    assert both({name: value for name, value in GIFT.items() if name != field}) == (False, False)


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": "é" * 128},
        {"user_id": "😀" * 128},
        {"request_id": None},
        {"schema_v": 1},
        {"event_at": "2026-11-01T18:00:00.123456+09:00"},
        {"event_at": "2026-11-01 18:00:00z"},
        {"event_at": "2026-11-01T18:00:00-0330"},
    ],
    ids=str,
)
def test_contract_and_reader_take(change: dict[str, Any]) -> None:
    assert both(GIFT | change) == (True, True)


# --- what may change ---


def test_every_released_topic_is_still_there() -> None:
    assert {path.stem for path in RELEASED} <= set(TOPICS)
    assert RELEASED


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
def test_todays_readers_take_every_event_of_the_released_contract(path: Path) -> None:
    released = json.loads(path.read_text(encoding="utf-8"))
    assert breaks(released, contract(released["x-topic"])) == []


def page(
    fields: dict[str, Any], *, required: tuple[str, ...] = ("id",), tag: str = "seen", **head: str
) -> dict[str, Any]:
    """A contract of one type."""
    body = {
        "type": "object",
        "properties": {"type": {"enum": [tag]}, "id": {"type": "string"}, **fields},
        "required": ["type", *required],
        "additionalProperties": False,
    }
    names = {"x-topic": "films", "x-key": "id", "x-partitioner": "murmur2"} | head
    colours = {"enum": ["red", "blue"]}
    return {
        **names,
        "discriminator": {"mapping": {tag: "#/$defs/Seen"}},
        "$defs": {"Seen": body, "Colour": colours},
    }


def of(field: dict[str, Any]) -> dict[str, Any]:
    return page({"x": field})


def either(*forms: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": list(forms)}


TEXT, WHOLE, NUMBER, NULL = ({"type": name} for name in ("string", "integer", "number", "null"))
MAP = {"type": "object", "additionalProperties": NUMBER}
OPEN = {"type": "object"}
BREAKS = [
    (page({}, tag="seen"), page({}, tag="watched"), "seen: the type is removed"),
    (page({}), page({}, **{"x-key": "user"}), "key: changed from 'id' to 'user': one entity's"),
    (page({}), page({}, **{"x-topic": "movies"}), "topic: changed from 'films' to 'movies': old events lie"),
    (page({}), page({}, **{"x-partitioner": "crc32"}), "partitioner: changed from 'murmur2' to 'crc32': one key's"),
    (of(TEXT), page({}), "seen.x: removed"),
    (page({}), page({"x": TEXT}, required=("id", "x")), "seen.x: required now, and old events may be without it"),
    (of(TEXT), page({"x": TEXT}, required=("id", "x")), "seen.x: required now, and old events may be without it"),
    (of(TEXT), of(WHOLE), "seen.x: string is no longer allowed"),
    (of(NUMBER), of(WHOLE), "seen.x: number is no longer allowed"),
    (of(either(TEXT, NULL)), of(TEXT), "seen.x: null is no longer allowed"),
    (of(either(TEXT, NULL)), of(either(WHOLE, NULL)), "seen.x: string is no longer allowed"),
    (of({}), of(TEXT), "seen.x: any value is no longer allowed"),
    (of({"enum": ["a", "b"]}), of({"enum": ["a", "c"]}), 'seen.x: "b" is no longer allowed'),
    (of({"enum": [1]}), of({"enum": [True]}), "seen.x: 1 is no longer allowed"),
    (of({"$ref": "#/$defs/Colour"}), of({"enum": ["red"]}), 'seen.x: "blue" is no longer allowed'),
    (of({"enum": ["long", "ok"]}), of({**TEXT, "maxLength": 2}), 'seen.x: "long" is no longer allowed'),
    (of({"enum": [3]}), of({**WHOLE, "minimum": 4}), "seen.x: 3 is no longer allowed"),
    (of({"enum": ["a"]}), of({**TEXT, "pattern": "^b"}), 'seen.x: "a" is no longer allowed'),
    (of(TEXT), of({"enum": ["a", "b"]}), 'seen.x: only "a", "b" is allowed now'),
    (of({**TEXT, "maxLength": 9}), of({**TEXT, "maxLength": 8}), "seen.x: the most length fell from 9 to 8"),
    (of(either(TEXT, NULL)), of({"anyOf": [TEXT, NULL], "maxLength": 8}),
     "seen.x: the most length fell from no limit to 8"),
    (of(TEXT), of({"enum": [None]}), "seen.x: string is no longer allowed"),
    (of(TEXT), of({**TEXT, "maxLength": 8}), "seen.x: the most length fell from no limit to 8"),
    (of(TEXT), of({**TEXT, "minLength": 1}), "seen.x: the least length rose from 0 to 1"),
    (of({"type": "array"}), of({"type": "array", "maxItems": 3}), "seen.x: the most items fell from no limit to 3"),
    (of({**NUMBER, "minimum": 0}), of({**NUMBER, "exclusiveMinimum": 0}),
     "seen.x: the minimum narrowed from 0 included to 0 excluded"),
    (of(NUMBER), of({**NUMBER, "minimum": -1}), "seen.x: the minimum narrowed from no limit to -1 included"),
    (of({**NUMBER, "maximum": 2}), of({**NUMBER, "maximum": 1}),
     "seen.x: the maximum narrowed from 2 included to 1 included"),
    (of(TEXT), of({**TEXT, "pattern": "^a"}), 'seen.x: pattern changed from null to "^a"'),
    (of(TEXT), of({**TEXT, "contentEncoding": "base64"}), 'seen.x: contentEncoding changed from null to "base64"'),
    (of({"type": "array", "items": TEXT}), of({"type": "array", "items": WHOLE}),
     "seen.x[]: string is no longer allowed"),
    (of({"type": "array"}), of({"type": "array", "items": TEXT}), "seen.x[]: any value is no longer allowed"),
    (of(MAP), of({"type": "object", "additionalProperties": WHOLE}), "seen.x[*]: number is no longer allowed"),
    (of(MAP), of({"type": "object", "additionalProperties": False}), "seen.x: other fields are no longer allowed"),
    (of(OPEN), of(MAP), "seen.x[*]: any value is no longer allowed"),
    (of(MAP), of({**MAP, "required": ["a"]}), "seen.x.a: required now, and old events may be without it"),
    (of(MAP), of({**MAP, "properties": {"a": TEXT}}), "seen.x.a: number is no longer allowed"),
    (of({**TEXT, "default": "a"}), of({**TEXT, "default": "b"}),
     'seen.x: events without it would change their meaning, from "a" to "b"'),
    (of(either(WHOLE, TEXT)), of(either(TEXT, {**WHOLE, "minimum": 0})),
     "seen.x: the minimum narrowed from no limit to 0 included"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), BREAKS, ids=[said for _, _, said in BREAKS])
def test_a_break_is_named(old: dict[str, Any], new: dict[str, Any], said: str) -> None:
    (found,) = breaks(old, new)
    assert found.startswith(said)
    assert breaks(old, old) == breaks(new, new) == []


TAKEN = {
    "an optional field more": (page({}), of(TEXT)),
    "a required field made optional": (page({"x": TEXT}, required=("id", "x")), of({**TEXT, "default": "a"})),
    "null allowed too": (of(TEXT), of(either(TEXT, NULL))),
    "whole numbers made numbers": (of(WHOLE), of(NUMBER)),
    "a word more": (of({"enum": ["a"]}), of({"enum": ["a", "b"]})),
    "two lists of words made of one": (of({"enum": ["a", "b"]}), of(either({"enum": ["b"]}, {"enum": ["a"]}))),
    "words made free text": (of({"enum": ["a", "b"]}), of({**TEXT, "minLength": 1})),
    "words that fit the form": (of({"enum": ["ab"]}), of({**TEXT, "pattern": "^a"})),
    "limits widened": (of({**TEXT, "minLength": 2, "maxLength": 3}), of({**TEXT, "minLength": 1, "maxLength": 4})),
    "a bound opened": (of({**NUMBER, "exclusiveMinimum": 0, "maximum": 1}), of({**NUMBER, "minimum": 0})),
    "a form given up": (of({**TEXT, "pattern": "^a", "format": "uri"}), of(TEXT)),
    "other words for people": (of({**TEXT, "description": "a"}), of({**TEXT, "description": "b", "examples": ["c"]})),
    "a name for a list of words": (of({"enum": ["red"]}), of({"$ref": "#/$defs/Colour"})),
    "a field of its own in a map": (of(MAP), of({**MAP, "properties": {"a": NUMBER}})),
    "fields opened": (of({"type": "object", "additionalProperties": False}), of(OPEN)),
}


@pytest.mark.parametrize(("old", "new"), TAKEN.values(), ids=TAKEN.keys())
def test_no_break_is(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert breaks(old, new) == []


def test_a_type_more_is_no_break() -> None:
    more = page({})
    more["discriminator"]["mapping"]["left"] = "#/$defs/Left"
    more["$defs"]["Left"] = {"type": "object"}
    assert breaks(page({}), more) == []


def test_a_field_more_is_refused_by_older_readers() -> None:
    released = contract("media.published")
    newer = copy.deepcopy(released)
    newer["$defs"]["MediaRemoved"]["properties"]["reason"] = {"type": "string", "default": ""}
    assert breaks(released, newer) == []
    assert breaks(newer, released) == ["media_removed.reason: removed"]


def test_a_raised_version_keeps_the_old_default_because_defaults_do_not_travel() -> None:
    released = contract("profiles")
    newer = copy.deepcopy(released)
    version = newer["$defs"]["ProfileErased"]["properties"]["schema_v"]
    version["enum"] = [1, 2]
    assert breaks(released, newer) == []
    version["default"] = 2
    assert breaks(released, newer) == [
        "profile_erased.schema_v: events without it would change their meaning, from 1 to 2"
    ]


few = st.integers(0, 3)
plain = st.one_of(
    st.fixed_dictionaries({"type": st.just("string")}, optional={"minLength": few, "maxLength": few}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": few, "exclusiveMinimum": few, "maximum": few, "exclusiveMaximum": few},
    ),
    st.fixed_dictionaries({"enum": st.lists(st.sampled_from(["a", "bb", 1, 2, None]), min_size=1, unique=True)}),
    st.sampled_from([NULL, {}]),
)


def nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    thing = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": st.dictionaries(st.sampled_from("ab"), inner),
            "required": st.lists(st.sampled_from("ab"), unique=True),
            "additionalProperties": st.one_of(st.booleans(), inner),
        },
    )
    rows = st.fixed_dictionaries(
        {"type": st.just("array")}, optional={"items": inner, "minItems": few, "maxItems": few}
    )
    return st.one_of(thing, rows, st.lists(inner, min_size=1, max_size=3).map(lambda forms: {"anyOf": forms}))


schemas = st.recursive(plain, nested, max_leaves=4)
values = st.recursive(
    st.sampled_from(["", "a", "bb", "ccc", 0, 1, 2, 3, 1.5, None]),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=4,
)


@settings(max_examples=1500, deadline=None)
@given(old=schemas, new=schemas, some=st.lists(values, max_size=8))
def test_a_value_that_only_the_old_contract_takes_is_always_a_break(
    old: dict[str, Any], new: dict[str, Any], some: list[Any]
) -> None:
    was, now = Draft202012Validator(old), Draft202012Validator(new)
    lost = [value for value in some if was.is_valid(value) and not now.is_valid(value)]
    assert not (lost and breaks(of(old), of(new)) == []), lost
    assert breaks(of(old), of(old)) == []
