"""Age and gender reach no model: not by name, not under another name, and not in what is exported."""

from dataclasses import replace

import pytest

from events.schema import CreatorProfile, Event, ViewerProfile
from features import definitions
from features.allowlist import ALLOWED, AUDIT_ONLY, PROFILES, Use, misused, read_by
from features.definitions import FEATURES, Entity, Feature, Take
from features.encoder import DEFAULT_CONFIG, ITEM_TENSORS, STATS_TENSORS, USER_TENSORS, Encoder
from features.errors import BadEncoder
from monitoring.audit_viewers import DIMENSIONS

PLANTED = replace(FEATURES[0], name="harmless", entity=Entity.USER, on={"viewer_profile": Take(value="gender")})


def test_every_attribute_that_a_profile_tells_is_in_the_table() -> None:
    told = {name for kind in (ViewerProfile, CreatorProfile) for name in kind.__struct_fields__}
    assert told - set(Event.__struct_fields__) - {"user_id"} == set(ALLOWED)


def test_the_table_says_language_may_be_a_feature_and_age_and_gender_may_not() -> None:
    assert {Use.FEATURE, Use.AUDIT} <= ALLOWED["language"]
    assert AUDIT_ONLY == {"age_band", "gender"} == definitions.AUDIT_ONLY


def test_the_audits_groups_are_those_that_the_table_allows() -> None:
    assert all(Use.AUDIT in ALLOWED[name] for name in DIMENSIONS)


def test_no_definition_reads_what_it_may_not() -> None:
    assert misused(FEATURES) == []


def test_definitions_read_profiles_at_all() -> None:
    """Else the test above could not fail."""
    assert {"language", "region", "joined_at", "blocked_creators"} <= {one for f in FEATURES for one in read_by(f)}


@pytest.mark.parametrize(
    ("take", "attribute"),
    [
        (Take(value="gender"), "gender"), (Take(1, key="age_band"), "age_band"), (Take(1, when=("gender", "x")), "gender"),
        (Take(weight_field="age_band"), "age_band"),
    ],
)  # fmt: skip
def test_a_feature_made_of_gender_under_another_name_is_found(take: Take, attribute: str) -> None:
    planted = replace(PLANTED, on={"viewer_profile": take})
    assert misused([*FEATURES, planted]) == [
        f"user.harmless is computed from {attribute}, which may serve audit, no feature"
    ]


def test_what_filters_may_not_become_a_feature() -> None:
    planted = replace(PLANTED, name="blocked_count", on={"viewer_profile": Take(value="blocked_creators")})
    assert misused([planted]) == [
        "user.blocked_count is computed from blocked_creators, which may serve filter, no feature"
    ]


def test_an_attribute_that_is_not_in_the_table_serves_nothing() -> None:
    planted = replace(PLANTED, on={PROFILES[0]: Take(value="religion")})
    assert misused([planted]) == ["user.harmless is computed from religion, which may serve nothing, no feature"]


def tensors_of(feature: str) -> set[str]:
    """The model inputs that are made of a feature."""
    config = DEFAULT_CONFIG
    return (
        {tensor for tensor, one in config.words.items() if one == feature}
        | {tensor for tensor, (one, _) in config.lists.items() if one == feature}
        | {tensor for tensor, several in config.numbers.items() if feature in several}
    )


def test_every_input_of_every_signature_is_made_of_named_features_that_are_allowed() -> None:
    from training.serving_signatures import RANK_TENSORS

    named = {*DEFAULT_CONFIG.words, *DEFAULT_CONFIG.lists, *DEFAULT_CONFIG.numbers}
    assert set(RANK_TENSORS) == {*USER_TENSORS, *ITEM_TENSORS, *STATS_TENSORS} == named
    by_name: dict[str, list[Feature]] = {}
    for one in FEATURES:
        by_name.setdefault(f"{one.entity}.{one.name}", []).append(one)
    made = [feature for name, found in by_name.items() if tensors_of(name) for feature in found]
    assert "preferred_language" in {one.name for one in made}
    assert not {attribute for one in made for attribute in read_by(one)} & AUDIT_ONLY


@pytest.mark.parametrize("attribute", sorted(AUDIT_ONLY))
def test_the_encoder_refuses_an_audit_only_input(attribute: str) -> None:
    config = replace(DEFAULT_CONFIG, words={**DEFAULT_CONFIG.words, "user_language": f"user.{attribute}"})
    with pytest.raises(BadEncoder, match=f"^user.{attribute} serves the audit alone and may not be a model input$"):
        Encoder.fit([{}], config)
