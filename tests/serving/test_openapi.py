"""The OpenAPI document: well formed, and its examples are what it says."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serving.feed import Feed
from serving.openapi import EXAMPLE, FEED, PATHS, document
from serving.query import PARAMETERS, parse

DOCUMENT = document(tokens=True, follows_requests=True)


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def answers() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, status, content)
        for path, item in DOCUMENT["paths"].items()
        for status, answer in item["get"]["responses"].items()
        for content in answer["content"].values()
    ]


def test_every_path_is_in_it_and_no_other() -> None:
    assert tuple(DOCUMENT["paths"]) == PATHS


@pytest.mark.parametrize(("path", "status", "content"), answers())
def test_every_answer_and_error_has_an_example_that_is_valid(path: str, status: str, content: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(content["schema"])
    validator(content["schema"]).validate(content["example"])


def test_an_example_of_an_error_is_the_one_sentence_form() -> None:
    errors = [content["example"] for _, status, content in answers() if status not in ("200", "503")]
    assert errors
    assert all(set(one) == {"error"} and "; " in one["error"] for one in errors)


def test_every_parameter_has_an_example_that_its_schema_and_the_parser_take() -> None:
    for one in PARAMETERS.values():
        Draft202012Validator(one.schema).validate(one.example)
    given = {name: str(one.example) for name, one in PARAMETERS.items()}
    asked = parse(given, None, request_id="q", wall=lambda: 0.0)
    assert (asked.request.user_id, asked.request.limit, asked.cursor) == ("u42", 20, given["cursor"])


def test_the_defaults_in_it_are_the_ones_that_rule() -> None:
    asked = parse({"user_id": "u"}, None, request_id="q", wall=lambda: 0.0).request
    for name in ("surface", "limit", "diversity"):
        assert PARAMETERS[name].schema["default"] == getattr(asked, name)


def test_every_field_of_the_answer_is_in_the_schema_and_required() -> None:
    feed = DOCUMENT["components"]["schemas"]["Feed"]
    assert set(feed["required"]) == set(Feed.__struct_fields__) == set(EXAMPLE)


def test_tokens_are_in_it_only_where_they_are_asked_for() -> None:
    without = document(tokens=False, follows_requests=True)["paths"][FEED]["get"]
    assert {"401", "403"} & set(without["responses"]) == set()
    assert "security" not in without
    assert without["parameters"][0]["required"] is True
    with_tokens = DOCUMENT["paths"][FEED]["get"]
    assert with_tokens["security"] == [{"viewer": []}]
    assert with_tokens["parameters"][0]["required"] is False


def test_the_header_that_says_the_time_is_in_it_only_where_it_counts() -> None:
    def headers(*, follows_requests: bool) -> list[str]:
        feed = document(tokens=False, follows_requests=follows_requests)["paths"][FEED]["get"]
        return [one["name"] for one in feed["parameters"] if one["in"] == "header"]

    assert headers(follows_requests=True) == ["X-Livefeed-Now"]
    assert headers(follows_requests=False) == []
