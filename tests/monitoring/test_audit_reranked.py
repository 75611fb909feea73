"""Audits on re-ranked requests: whose file is taken, and what the record says that it cannot tell."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from monitoring.audit import audit
from monitoring.audit_page import to_html
from monitoring.audit_record import AuditReason
from monitoring.audit_reranked import cannot_tell, load_reranked, met_too_few
from monitoring.audit_rows import Reranked
from monitoring.errors import BadRecord
from registry.reranked import SCHEMA, Card, sign, writing
from registry.verdict import Outcome
from tests.monitoring.audit_month import PLAN, month, ranked_again

CARD = Card(
    month="2027-01", line="new", candidate="new-3", incumbent="old-1", logged=9_000, drawn=5_000, requests=4_000, rows=40_000,
    left_out={"no logged features": 1_000}, candidate_until="2027-01-20T08:00:00+00:00",
    incumbent_until="2026-12-31T23:00:00+00:00",
)  # fmt: skip


def file_of(folder: Path, card: Card | None = CARD) -> Path:
    path = folder / "again.parquet"
    row = ["q1", "u1", "m1", "c1", 0.0, None, 0.25, 1]
    with writing(path) as writer:
        writer.write_table(
            pa.table([pa.array([value], one.type) for value, one in zip(row, SCHEMA, strict=True)], SCHEMA)
        )
        if card is not None:
            sign(writer, card)
    return path


def test_a_file_is_read_with_what_it_was_made_of(tmp_path: Path) -> None:
    found = load_reranked(file_of(tmp_path), month="2027-01", line="new", against="old")
    assert found.card == CARD
    assert found.rows.to_pylist() == [
        {"request_id": "q1", "user_id": "u1", "item_id": "m1", "creator_id": "c1", "candidate_rank": 0.0,
         "incumbent_rank": None, "predicted": 0.25, "clicked": 1}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("month_", "line", "against", "sentence"),
    [
        ("2026-12", "new", "", "has the re-ranked requests of month 2027-01; asked for is 2026-12"),
        ("2027-01", "old", "", "has the re-ranked requests of line new; asked for is old"),
        ("2027-01", "new", "third", "has a candidate held against line old; asked for is third"),
    ],
)
def test_another_months_or_lines_file_is_refused(
    tmp_path: Path, month_: str, line: str, against: str, sentence: str
) -> None:
    with pytest.raises(BadRecord, match=sentence):
        load_reranked(file_of(tmp_path), month=month_, line=line, against=against)


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match="is no file of re-ranked requests; `livefeed training rerank` makes one"):
        load_reranked(file_of(tmp_path, None), month="2027-01", line="new")
    with pytest.raises(BadRecord, match="cannot be read"):
        load_reranked(tmp_path / "gone.parquet", month="2027-01", line="new")


def test_a_file_whose_writing_failed_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "again.parquet"):
        raise KeyError("half way")
    assert list(tmp_path.iterdir()) == []


def test_the_record_and_page_say_what_was_ordered_and_what_that_cannot_tell() -> None:
    rows = ranked_again(month(candidate=0.05))
    assert rows.reranked is not None
    found = audit(replace(rows, reranked=Reranked(rows.reranked.rows, CARD)), PLAN)
    assert (found.source, found.outcome) == ("reranked", Outcome.PASS), found.sentence
    assert (found.releases, found.incumbents, found.reranked) == (("new-3",), ("old-1",), CARD)
    page = to_html(found)
    assert "new-3 and old-1 each put 4,000 logged requests in order again" in page
    for text in ("items that only the candidate would have recalled", "1,000 left out with no logged features"):
        assert text in page


def test_who_was_trained_on_the_month_is_said() -> None:
    texts = [one.text for one in cannot_tell(CARD)]
    assert "the candidate was trained on the month up to 2027-01-20: its order" in texts[2] and len(texts) == 3
    later = Card(
        **{name: getattr(CARD, name) for name in Card.__struct_fields__} | {"incumbent_until": "2027-02-03T00:00"}
    )
    assert cannot_tell(later)[3].text.startswith("the incumbent was trained on all of the month")
    assert {(one.reason, one.holds) for one in cannot_tell(CARD)} == {(AuditReason.NOT_MEASURED, False)}


def test_a_line_has_met_whom_any_of_its_releases_showed_something() -> None:
    shown = pa.table({"user_id": ["u1", "u2", "u2", "u3"], "release": ["new-1", "new-2", "new-2", "new-b-1"]})
    assert not met_too_few(shown, "new", viewers=2)
    assert met_too_few(shown, "new", viewers=3)
    assert met_too_few(shown, "other", viewers=1)
