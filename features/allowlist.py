"""What each attribute that a profile tells of a person may be used for, in one table; what is not in it serves nothing.

The encoder and the export refuse audit-only names (features/encoder.py, training/serving_signatures.py). A name says little,
though, when a feature is defined from the attribute under another one: `misused` looks at what definitions read.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from features.definitions import Feature


class Use(StrEnum):
    """What an attribute can serve."""

    FEATURE = "feature"  # a model may see it, or what is computed from it
    FILTER = "filter"  # decides what may be shown at all
    AUDIT = "audit"  # names the groups of the bias audit


ALLOWED: Mapping[str, frozenset[Use]] = {
    "language": frozenset({Use.FEATURE, Use.AUDIT}),
    "region": frozenset({Use.FEATURE}),
    "age_band": frozenset({Use.AUDIT}),
    "gender": frozenset({Use.AUDIT}),
    "blocked_creators": frozenset({Use.FILTER}),
    "joined_at": frozenset({Use.FEATURE, Use.AUDIT}),
}
AUDIT_ONLY = frozenset(name for name, uses in ALLOWED.items() if uses == {Use.AUDIT})
PROFILES = ("viewer_profile", "creator_profile")  # the event types that tell of a person
# Features that exist to filter: the store keeps them and no model input may be made of them.
FILTERS = frozenset({"blocked_creators"})


def read_by(feature: "Feature") -> frozenset[str]:
    """The attributes of a person that a feature is computed from, whatever its own name."""
    takes = [take for kind, take in feature.on.items() if kind in PROFILES]
    paths = {path for take in takes for path in (take.key, take.value, take.weight_field) if path}
    return frozenset(paths | {take.when[0] for take in takes if take.when})


def misused(features: Iterable["Feature"]) -> list[str]:
    """One sentence for each feature that is computed from an attribute that may not serve it; empty when all is well."""
    out = []
    for feature in features:
        wanted = Use.FILTER if feature.name in FILTERS else Use.FEATURE
        for attribute in sorted(read_by(feature)):
            uses = ALLOWED.get(attribute, frozenset())
            if wanted not in uses:
                said = " and ".join(sorted(uses)) or "nothing"
                out.append(
                    f"{feature.entity}.{feature.name} is computed from {attribute}, which may serve {said}, no {wanted}"
                )
    return out
