"""The audit's asset: whose month is audited, and where the record lies that the canary's gate asks for."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.assets import audit as asset
from dagster_project.assets.audit import Audited, bias_audit
from dagster_project.resources import Platform
from monitoring.audit_record import AuditConfig, AuditReason, AuditRecord
from monitoring.audit_rows import COLUMNS, AuditRows, Reranked, table_of
from registry.experiment import Experiments, Record, State
from registry.manifest import point_live
from registry.verdict import Outcome
from tests.registry.test_experiment import experiment


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """The audit's room, replaced: what it was asked; it answers with a record of that line that passes."""
    said: list[dict[str, Any]] = []

    def plan(rows: AuditRows, **given: Any) -> dict[str, Any]:
        said.append(given | {"reranked": rows.reranked})
        return given

    def judged(_: object, given: dict[str, Any], *, before: AuditRecord | None) -> AuditRecord:
        return AuditRecord(
            line=given["line"], month=given["month"], at=100.0, source="traffic", outcome=Outcome.PASS,
            reasons=(AuditReason.PROVED_ABOVE,), sentence="said", config=AuditConfig(),
        )  # fmt: skip

    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    monkeypatch.setattr(asset, "audit_rows", lambda *_: ROWS)
    monkeypatch.setattr(asset, "audit_plan", plan)
    monkeypatch.setattr(asset, "audit", judged)
    monkeypatch.setattr(asset, "reranked", lambda *_, **__: None)
    return said


def shown_to(viewers: int, release: str) -> AuditRows:
    """A month in which that many viewers were shown one thing each by a release."""
    ids = [f"u{n}" for n in range(viewers)]
    columns = {name: [None] * viewers for name in COLUMNS["impressions"].names}
    tables = {name: COLUMNS[name].empty_table() for name in ("viewers", "creators", "items", "history")}
    impressions = table_of("impressions", columns | {"user_id": ids, "release": [release] * viewers})
    return AuditRows(until=1.0, impressions=impressions, **tables)


ROWS = shown_to(3, "rival-7")


def materialize(**config: Any) -> Any:
    context = dg.build_asset_context(partition_key="2026-10-01")
    return bias_audit(context, Platform(), Audited(**config))


def run_by(tmp_path: Path, state: State) -> None:
    Experiments(tmp_path / "releases").change(
        lambda _: Record(experiment=experiment(line="rival", state=state)), who="ada", at=1.0, what="a", why="b"
    )


def test_the_record_lies_where_promotions_look_for_it(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    assert materialize().metadata["outcome"] == "pass"
    assert (tmp_path / "audits" / "audit-demo-2026-10.json").exists()
    assert (tmp_path / "audits" / "audit-demo-2026-10.html").exists()
    assert (asked[0]["month"], asked[0]["config"].min_viewers) == ("2026-10", 1_000)


def test_while_a_canary_runs_its_line_is_audited_unless_another_is_named(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    run_by(tmp_path, State.CANARY)
    materialize()
    materialize(line="third", against="demo", min_viewers=50)
    assert [(one["line"], one["against"]) for one in asked] == [("rival", ""), ("third", "demo")]


def test_after_a_canary_the_platforms_line_is_audited(asked: list[dict[str, Any]], tmp_path: Path) -> None:
    run_by(tmp_path, State.ROLLED_BACK)
    materialize()
    assert asked[0]["line"] == "demo"


# --- candidates that few have met ---------------------------------------------------------------------------------------


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The re-ranking, replaced: the folders that were to be ordered."""
    said: list[tuple[str, str]] = []

    def again(_: object, __: object, sides: tuple[Path, Path], **___: Any) -> Reranked:
        said.append((sides[0].name, sides[1].name))
        return Reranked(COLUMNS["reranked"].empty_table())

    monkeypatch.setattr(asset, "reranked", again)
    return said


def test_a_canary_that_met_too_few_viewers_is_audited_on_what_it_would_have_ordered(
    asked: list[dict[str, Any]], ranked: list[tuple[str, str]], tmp_path: Path
) -> None:
    run_by(tmp_path, State.CANARY)
    materialize(traffic_viewers=4)
    one = experiment(line="rival")
    assert ranked == [(one.release, one.control_release)]
    assert asked[0]["reranked"] is not None and asked[0]["config"].traffic_viewers == 4


def test_a_canary_that_met_enough_is_audited_by_its_traffic(
    asked: list[dict[str, Any]], ranked: list[tuple[str, str]], tmp_path: Path
) -> None:
    run_by(tmp_path, State.CANARY)
    materialize(traffic_viewers=3)
    assert ranked == [] and asked[0]["reranked"] is None


def test_a_candidate_that_waits_is_held_against_what_is_in_traffic(
    asked: list[dict[str, Any]], ranked: list[tuple[str, str]], tmp_path: Path
) -> None:
    for name in ("coming-2", "coming-10"):
        (tmp_path / "candidates" / name).mkdir(parents=True)
        (tmp_path / "candidates" / name / "manifest.json").touch()
    (tmp_path / "releases").mkdir()
    point_live(tmp_path / "releases", {"stable": "demo-7"})
    materialize(line="coming")
    materialize(line="demo")
    assert ranked == [("coming-10", "demo-7")]
    assert [one["reranked"] is not None for one in asked] == [True, False]


def test_a_month_that_cannot_be_put_in_order_again_is_judged_by_its_traffic(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    run_by(tmp_path, State.CANARY)  # the re-ranking of `asked` finds nothing
    materialize()
    assert asked[0]["reranked"] is None
