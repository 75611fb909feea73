"""The nightly job on the real parts: who asked to be forgotten is erased, and the tables are tidied."""

from pathlib import Path

import dagster as dg
import pytest

from dagster_project.assets.upkeep import erased_people, tidy_tables
from dagster_project.definitions import defs
from dagster_project.resources import Platform
from events import schema as s
from events.clock import utc
from events.log import Record
from events.tables import to_row
from events.topics import PROFILES
from features.tables import DeltaTables
from release.forget import pending
from stack.parts import Parts
from tests.collector.stories import EVENING, at


@pytest.mark.parts
def test_the_nightly_job_forgets_who_asked_and_tidies_the_tables(
    parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in parts.settings.model_copy(update={"var": tmp_path, "commit_every_s": 0.1}).environment().items():
        monkeypatch.setenv(name, value)
    tables = DeltaTables(tmp_path / "lake")
    asked = s.ProfileErased(event_id="bye", event_at=at(0), user_id="nightly-vera")
    known = s.ViewerProfile(event_id="hello", event_at=at(-60), user_id="nightly-vera", language="en")
    rows = [
        to_row(event, Record(PROFILES, 0, n, None, b""), ingested_at=utc(EVENING), late=False)
        for n, event in enumerate((known, asked))
    ]
    tables.append(PROFILES, rows, offsets={0: 2})
    assert pending(tmp_path / "lake") == ["nightly-vera"]
    result = dg.materialize([erased_people, tidy_tables], resources={"platform": Platform()})
    assert result.success
    (people,) = result.asset_materializations_for_node("erased_people")
    assert people.metadata["people"].value == 1
    assert pending(tmp_path / "lake") == []
    assert DeltaTables(tmp_path / "lake").read("profiles").num_rows == 0


def test_upkeep_is_a_job_of_its_own_and_no_part_of_learning() -> None:
    learned = defs.resolve_job_def("learn").asset_layer.executable_asset_keys
    tidied = defs.resolve_job_def("upkeep").asset_layer.executable_asset_keys
    names = {key.to_user_string() for key in tidied}
    assert names == {"erased_people", "tidy_tables"} and not names & {key.to_user_string() for key in learned}
