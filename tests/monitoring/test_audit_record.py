"""The record as a file and as a page."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from monitoring.audit import audit
from monitoring.audit_page import to_html, write_page
from monitoring.audit_record import AuditReason, AuditRecord, newest_audit, read_record, write_record
from monitoring.canary_plan import Audit
from monitoring.errors import BadRecord
from registry.verdict import Outcome
from tests.monitoring.audit_month import PLAN, month


@pytest.fixture(scope="module")
def unfair() -> AuditRecord:
    return audit(month(2_400, unfair={"tr": 0.4}), PLAN)


def test_a_record_is_read_as_it_was_written(unfair: AuditRecord, tmp_path: Path) -> None:
    path = write_record(unfair, tmp_path)
    assert path.name == "audit-new-2027-01.json"
    assert read_record(tmp_path, "new", "2027-01") == unfair
    assert b"NaN" not in path.read_bytes() and b"Infinity" not in path.read_bytes()


def test_no_record_is_none_and_a_broken_one_is_refused(tmp_path: Path) -> None:
    assert read_record(tmp_path, "new", "2026-12") is None
    (tmp_path / "audit-new-2026-12.json").write_text('{"line": 3}')
    with pytest.raises(BadRecord, match=r"^audit record .*audit-new-2026-12.json cannot be read: "):
        read_record(tmp_path, "new", "2026-12")


def of_month(record: AuditRecord, month: str, *, at: float) -> AuditRecord:
    return replace(record, month=month, at=at, outcome=Outcome.PASS)


def test_the_newest_months_record_is_the_lines_audit(unfair: AuditRecord, tmp_path: Path) -> None:
    assert newest_audit(tmp_path, "new", report=print) is None
    for name, at in (("2026-12", 1.0), ("2027-01", 2.0), ("2026-11", 3.0)):
        write_record(of_month(unfair, name, at=at), tmp_path)
    write_record(replace(unfair, line="new-er", month="2027-03"), tmp_path)
    (tmp_path / "audit-new-2027-13.json").write_text("no month")
    assert newest_audit(tmp_path, "new", report=print) == Audit("new", Outcome.PASS, 2.0)


@pytest.mark.parametrize("body", ["", '{"line": "new"', '{"line": 3}', None])
def test_a_newest_record_that_cannot_be_read_is_undecided_and_no_older_pass_stands_for_it(
    unfair: AuditRecord, tmp_path: Path, body: str | None
) -> None:
    write_record(of_month(unfair, "2026-11", at=1.0), tmp_path)
    if body is None:  # a record of another month under this one's name
        write_record(of_month(unfair, "2026-10", at=0.0), tmp_path).rename(tmp_path / "audit-new-2026-12.json")
    else:
        (tmp_path / "audit-new-2026-12.json").write_text(body)
    said: list[str] = []
    found = newest_audit(tmp_path, "new", report=said.append)
    assert found == Audit("new", Outcome.UNDECIDED, datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    assert len(said) == 1 and "audit-new-2026-12.json counts as undecided: " in said[0]


def test_an_older_record_that_cannot_be_read_does_not_matter(unfair: AuditRecord, tmp_path: Path) -> None:
    (tmp_path / "audit-new-2026-12.json").write_text("{")
    write_record(of_month(unfair, "2027-01", at=2.0), tmp_path)
    assert newest_audit(tmp_path, "new", report=pytest.fail) == Audit("new", Outcome.PASS, 2.0)


def test_a_record_with_dials_that_mean_nothing_cannot_be_read(unfair: AuditRecord, tmp_path: Path) -> None:
    path = write_record(unfair, tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"four_fifths": 0.8', b'"four_fifths": 8.0'))
    with pytest.raises(BadRecord, match=r"four_fifths 8\.0 of an audit is not allowed"):
        read_record(tmp_path, "new", unfair.month)


def test_a_writer_that_dies_leaves_the_record_as_it_was(
    unfair: AuditRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(unfair, tmp_path)

    def full(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("monitoring.audit_record.os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_record(replace(unfair, sentence="new"), tmp_path)
    assert read_record(tmp_path, "new", unfair.month) == unfair
    assert [one.name for one in tmp_path.iterdir()] == [f"audit-new-{unfair.month}.json"]


@pytest.mark.parametrize("line", ["", "../x", ".hidden"])
def test_a_line_that_would_leave_the_folder_is_refused(unfair: AuditRecord, tmp_path: Path, line: str) -> None:
    with pytest.raises(BadRecord, match=r"cannot name an audit's file"):
        write_record(replace(unfair, line=line), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_says_what_came_out_and_shows_every_cell(unfair: AuditRecord, tmp_path: Path) -> None:
    page = write_page(unfair, tmp_path / "deep" / "audit.html").read_text()
    assert "Bias audit of line new, 2027-01" in page
    assert "class='said fail'" in page and "consumer ctr by language, tr: " in page
    assert page.count("<tr>") > len(unfair.cells)
    assert (
        page.count("data:image/svg+xml;base64,")
        == len({one.family for one in unfair.cells if one.check == "level"}) + 1
    )
    assert "smallest / largest" in page and "divergence_category" in page
    assert ">nan<" not in page


def test_the_same_record_gives_the_same_page(unfair: AuditRecord) -> None:
    one = replace(unfair, cells=unfair.cells[:3])
    assert to_html(one) == to_html(one)


def test_an_audit_that_could_not_be_made_has_a_page_and_words_are_escaped(unfair: AuditRecord) -> None:
    held = AuditRecord(
        line="<b>", month="2027-01", at=0.0, source="none", outcome=Outcome.UNDECIDED, reasons=(AuditReason.NO_ROWS,),
        sentence="nothing <i>", config=unfair.config,
    )  # fmt: skip
    page = to_html(held)
    assert (
        "class='said undecided'" in page and "&lt;b&gt;" in page and "nothing &lt;i&gt;" in page and "<i>" not in page
    )
