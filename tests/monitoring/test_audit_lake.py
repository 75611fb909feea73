"""A month's rows from real Delta tables, and the command over them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import Result
from deltalake import write_deltalake
from typer.testing import CliRunner

from events import schema as s
from events.log import Record
from events.tables import to_row
from events.topics import topic_of
from features.errors import NoTable
from features.tables import DeltaTables
from monitoring.__main__ import app
from monitoring.audit_lake import audit_plan, audit_rows
from monitoring.audit_record import AuditConfig, AuditReason, read_record
from monitoring.audit_rows import AuditRows, wrong_with
from registry.verdict import Outcome

START = datetime(2027, 1, 1, tzinfo=UTC)
SAMPLE = pa.schema([("request_id", pa.string()), ("item_id", pa.string()), ("click", pa.int8()), ("watch", pa.int8()),
                    ("completion", pa.int8()), ("event_date", pa.date32())])  # fmt: skip


def at(days: float) -> datetime:
    """So many days from the month's first midnight."""
    return START + timedelta(days=days)


def store(lake: Path, events: list[s.Event]) -> None:
    tables, rows = DeltaTables(lake), {}
    for offset, event in enumerate(events):
        name = topic_of(event).name
        row = to_row(event, Record(name, 0, offset, None, b""), ingested_at=event.event_at, late=False)
        rows.setdefault(name, []).append(row)
    for name, found in rows.items():
        tables.progress(name, partitions=[0])
        tables.append(name, found, offsets={0: len(events)})


def label(lake: Path, *rows: tuple[str, str, int, int, int], day: datetime = START) -> None:
    """Samples as (request, item, click, watch, completion)."""
    columns = [*zip(*rows, strict=True), [day.date()] * len(rows)]
    table = pa.table(
        {field.name: pa.array(one, field.type) for field, one in zip(SAMPLE, columns, strict=True)}, schema=SAMPLE
    )
    write_deltalake(str(lake / "samples"), table, mode="append", partition_by=["event_date"])


def shown(
    request: str, item: str, *, days: float, release: str = "demo-3", event: str = "", **more: Any
) -> s.Impression:
    return s.Impression(
        event_id=event or f"{request}:{item}", event_at=at(days), request_id=request, user_id="u1", item_id=item, position=2,
        content_type=s.ContentType.VIDEO, creator_id="c1", release=release, **more,
    )  # fmt: skip


def published(item: str, *, days: float, creator: str = "c1", category: str = "jazz") -> s.MediaPublished:
    return s.MediaPublished(
        event_id=f"p{item}{days}", event_at=at(days), item_id=item, creator_id=creator, content_type="VIDEO",
        category=category, language="en",
    )  # fmt: skip


def viewer(user: str, *, days: float, **more: Any) -> s.ViewerProfile:
    return s.ViewerProfile(event_id=f"v{user}{days}", event_at=at(days), user_id=user, **more)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> AuditRows:
    """January 2027, with a little before and after it."""
    lake = tmp_path_factory.mktemp("lake")
    watched = {"user_id": "u1", "creator_id": "c1"}
    store(lake, [
        shown("q1", "m1", days=0.1, propensity=0.25, scores={"click": 0.3, "like": 0.9}),
        shown("q1", "m1", days=0.2, event="again", propensity=0.5), shown("q2", "r1", days=0.3, release="old-1"),
        shown("q0", "m1", days=-1), shown("q9", "m1", days=31.5),
        viewer("u1", days=-300, language="en", gender="female"), viewer("u1", days=-3, language="de", age_band="25-34"),
        viewer("u1", days=40, language="tr"), viewer("u2", days=-5, language="en"),
        viewer("u3", days=-5, language="en"), s.ProfileErased(event_id="e", event_at=at(3), user_id="u3"),
        s.CreatorProfile(event_id="c", event_at=at(-9), user_id="c1", language="en", joined_at=at(-20)),
        published("m1", days=-9, category="rock"), published("m1", days=-4), published("m2", days=35),
        published("gone", days=-9, creator="c2"), s.MediaRemoved(event_id="x", event_at=at(-2), item_id="gone"),
        published("left", days=-9), s.MediaRemoved(event_id="y", event_at=at(9), item_id="left"),
        s.RoomOpened(event_id="o", event_at=at(2), streamer_id="h1", room_id="r1", category="chat", language="tr"),
        s.RoomOpened(event_id="o0", event_at=at(-8), streamer_id="h1", room_id="r0", category="chat"),
        s.MediaStarted(event_id="s1", event_at=at(-2), item_id="gone", **watched),
        s.MediaStarted(event_id="s2", event_at=at(-1), item_id="gone", **watched),
        s.MediaStarted(event_id="s3", event_at=at(1), item_id="m1", **watched),
        s.RoomEntered(event_id="s4", event_at=at(-8), user_id="u2", room_id="r0", streamer_id="h1"),
        s.SubscriptionToCreator(event_id="f1", event_at=at(-2), user_id="u1", creator_id="c1"),
        s.SubscriptionToCreator(event_id="f2", event_at=at(-1), user_id="u1", creator_id="c1"),
        s.SubscriptionToCreator(event_id="f3", event_at=at(5), user_id="u2", creator_id="c1"),
        s.StreamerFollowed(event_id="f4", event_at=at(-8), user_id="u2", room_id="r0", streamer_id="h1"),
    ])  # fmt: skip
    label(lake, ("q1", "m1", 1, 1, 0), ("q2", "r1", 0, 0, 0))
    return audit_rows(lake, "2027-01")


def test_the_months_impressions_come_with_labels_once_each(rows: AuditRows) -> None:
    assert rows.impressions.sort_by("request_id").drop_columns(["event_at", "creator_id", "position"]).to_pylist() == [
        {"request_id": "q1", "user_id": "u1", "item_id": "m1", "release": "demo-3", "predicted": 0.3, "propensity": 0.25,
         "clicked": 1, "started": 1, "completed": 0},
        {"request_id": "q2", "user_id": "u1", "item_id": "r1", "release": "old-1", "predicted": None, "propensity": None,
         "clicked": 0, "started": 0, "completed": 0},
    ]  # fmt: skip
    first = rows.impressions.sort_by("request_id").to_pylist()[0]
    assert (first["event_at"], first["position"]) == (at(0.1).timestamp(), 2.0)
    assert rows.until == at(0.3).timestamp() and wrong_with(rows) == []  # when traffic stopped


def test_a_viewer_is_what_her_last_profile_before_the_months_end_says(rows: AuditRows) -> None:
    assert rows.viewers.sort_by("user_id").to_pylist() == [
        {"user_id": "u1", "language": "de", "age_band": "25-34", "gender": None},
        {"user_id": "u2", "language": "en", "age_band": None, "gender": None},
    ]


def test_the_catalogue_knows_what_could_be_shown(rows: AuditRows) -> None:
    found = {row["item_id"]: (row["creator_id"], row["category"], row["listed"]) for row in rows.items.to_pylist()}
    assert found == {
        "m1": ("c1", "jazz", 1), "left": ("c1", "jazz", 1), "gone": ("c2", "jazz", 0), "r1": ("h1", "chat", 1),
        "r0": ("h1", "chat", 0),
    }  # fmt: skip


def test_creators_have_their_followers_of_before_the_month(rows: AuditRows) -> None:
    assert rows.creators.sort_by("creator_id").to_pylist() == [
        {"creator_id": "c1", "language": "en", "size": 1.0, "joined_at": at(-20).timestamp()},
        {"creator_id": "c2", "language": None, "size": 0.0, "joined_at": None},
        {"creator_id": "h1", "language": None, "size": 1.0, "joined_at": None},
    ]


def test_history_is_what_was_started_before_the_month(rows: AuditRows) -> None:
    assert sorted((row["user_id"], row["item_id"]) for row in rows.history.to_pylist()) == [
        ("u1", "gone"),
        ("u2", "r0"),
    ]


def test_the_plan_finds_the_lines_releases(rows: AuditRows) -> None:
    plan = audit_plan(rows, month="2027-01", line="demo", against="", config=AuditConfig())
    assert (plan.candidate, plan.incumbent) == (("demo-3",), ("old-1",))


def test_labels_that_are_not_known_yet_hold_the_audit(tmp_path: Path) -> None:
    store(tmp_path, [shown("q1", "m1", days=0.1), shown("q2", "m1", days=30.9)])
    label(tmp_path, ("q1", "m1", 1, 1, 0))
    first = wrong_with(audit_rows(tmp_path, "2027-01"))[0]
    assert (first.reason, first.text) == (AuditReason.MISSING_VALUE, "the column impressions.clicked lacks 1 values")


def test_an_empty_lake_names_who_fills_it(tmp_path: Path) -> None:
    with pytest.raises(NoTable, match=r"there is no table 'impressions' in .* yet; the collector makes it"):
        audit_rows(tmp_path, "2027-01")
    store(tmp_path, [shown("q1", "m1", days=0.1)])
    with pytest.raises(NoTable, match=r"there is no table 'samples' in .* yet; `livefeed features samples` makes it"):
        audit_rows(tmp_path, "2027-01")


def nothing(request: str, *, days: float, user: str = "u1", event: str = "") -> s.EmptyFeed:
    return s.EmptyFeed(
        event_id=event or f"{request}:empty", event_at=at(days), request_id=request, user_id=user, release="demo-3"
    )


def requests(lake: Path, *events: s.Event) -> list[tuple[str, float]] | None:
    """The month's requests as (user, items), out of these events and a label for each impression."""
    store(lake, list(events))
    label(lake, *((e.request_id, e.item_id, 0, 0, 0) for e in events if isinstance(e, s.Impression)))
    found = audit_rows(lake, "2027-01").requests
    return None if found is None else sorted((row["user_id"], row["results"]) for row in found.to_pylist())


def test_feeds_with_nothing_are_requests_beside_those_that_were_answered(tmp_path: Path) -> None:
    assert requests(
        tmp_path, nothing("old", days=-4), shown("q1", "m1", days=0.1), shown("q1", "m2", days=0.1),
        shown("q1", "m2", days=0.2, event="again"), nothing("q2", days=0.5, user="u2"),
        nothing("q2", days=0.5, user="u2", event="again"), nothing("later", days=31.5),
    ) == [("u1", 2.0), ("u2", 0.0)]  # fmt: skip


def test_requests_count_from_the_first_feed_on_that_was_logged_as_empty(tmp_path: Path) -> None:
    assert requests(
        tmp_path, shown("q1", "m1", days=0.1), nothing("q2", days=2, user="u2"), shown("q3", "m1", days=3)
    ) == [("u1", 1.0), ("u2", 0.0)]


def test_a_month_before_any_feed_was_logged_as_empty_says_nothing_of_requests(tmp_path: Path) -> None:
    assert requests(tmp_path, shown("q1", "m1", days=0.1), nothing("later", days=31.5)) is None


# --- the command ------------------------------------------------------------------------------------------------------

Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path / "var"))
    return lambda *words: CliRunner().invoke(app, ["audit", "--out", str(tmp_path / "out"), *words])


def test_the_command_writes_record_and_page_and_fails_unless_it_passes(run: Run, tmp_path: Path) -> None:
    lake = tmp_path / "var" / "lake"
    store(lake, [shown("q1", "m1", days=0.1), viewer("u1", days=-3, language="de"), published("m1", days=-4)])
    label(lake, ("q1", "m1", 1, 1, 0))
    result = run("--month", "2027-01", "--line", "demo")
    assert result.exit_code == 1
    assert result.stderr.startswith("line demo has no passing audit of 2027-01: undecided: ")
    record = read_record(tmp_path / "out", "demo", "2027-01")
    assert (
        record is not None and record.outcome is Outcome.UNDECIDED and AuditReason.ATTRIBUTE_UNKNOWN in record.reasons
    )
    assert "Bias audit of line demo, 2027-01" in (tmp_path / "out" / "audit-demo-2027-01.html").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--month", "2027-13", "--line", "demo"), "'2027-13' is no month; write it like 2027-01"),
        (("--month", "2027-01", "--line", "demo"), "there is no table 'impressions' in "),
        (("--month", "2027-01", "--line", "../demo"), "line '../demo' cannot name an audit's file"),
        (
            ("--month", "2027-01", "--line", "demo", "--min-viewers", "5"),
            "min_viewers 5 of an audit is not allowed: a number, at least 20",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str) -> None:
    result = run(*words)
    assert result.exit_code == 1 and result.stderr.startswith(sentence), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()
