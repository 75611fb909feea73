"""Logged requests in the order of two releases, whose probabilities are planted by hand."""

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import cli
from events import schema as s
from features.errors import NoTable
from features.offline_tables import need_table
from monitoring.audit_record import read_record
from registry.errors import BadReranked
from registry.manifest import point_live
from registry.reranked import Card, read_reranked
from tests.monitoring.test_audit_lake import at, label, published, store, viewer
from tests.training.rankers import features, release
from training.errors import NothingToRerank
from training.rerank import draw, rerank

MONTH = "2027-01"
# click, like. The candidate's clicks rise with the number, the incumbent's fall. Of four items a side shows two.
OURS = {"m1": (0.1, 0.9), "m2": (0.2, 0.0), "m3": (0.3, 0.0), "m4": (0.4, 0.0)}
THEIRS = {"m1": (0.9, 0.0), "m2": (0.5, 0.0), "m3": (0.4, 0.0), "m4": (0.3, 0.0)}
Row = dict[str, Any]


def shown(request: str, item: str, place: int, *, days: float = 0.1, user: str = "u1", **more: Any) -> s.Impression:
    told: dict[str, Any] = {"event_id": f"{request}:{place}", "features": features(item), "release": "old-1"} | more
    return s.Impression(
        event_at=at(days), request_id=request, user_id=user, item_id=item, position=place, creator_id="c1",
        content_type=s.ContentType.VIDEO, **told,
    )  # fmt: skip


def page(request: str, *, days: float = 0.1, user: str = "u1", **more: Any) -> list[s.Impression]:
    return [
        shown(request, item, n, days=days, user=user, **more) for n, item in enumerate(OURS)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("candidates")
    return {
        "candidate": release(place, OURS, line="new", version=2),
        "incumbent": release(place, THEIRS, line="old", data_until="2027-01-05T00:00:00+00:00"),
        "likes": release(place, OURS, line="likes", formula={"click": 1.0, "like": 1.0}),
        "shy": release(place, OURS, line="shy", formula={"click": -1.0}),
        "same": release(place, dict.fromkeys(OURS, (0.4, 0.4)), line="same"),
    }


def again(lake: Path, sides: dict[str, Path], **more: Any) -> tuple[Card, list[Row]]:
    chosen: dict[str, Any] = {"candidate": sides["candidate"], "incumbent": sides["incumbent"]} | more
    card = rerank(lake, MONTH, out=lake / "out.parquet", **chosen)
    held, rows = read_reranked(lake / "out.parquet", month=MONTH, line=card.line)
    assert held == card
    return card, sorted(rows.to_pylist(), key=lambda row: (row["request_id"], row["item_id"]))


def places(rows: list[Row], side: str, request: str = "q1") -> dict[str, float]:
    """The items that a side shows, by place."""
    return {
        row["item_id"]: row[f"{side}_rank"]
        for row in rows
        if row["request_id"] == request and row[f"{side}_rank"] is not None
    }


def test_both_sides_order_the_same_items_each_by_its_own_probabilities(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, [*page("q1")])
    label(tmp_path, ("q1", "m1", 0, 0, 0), ("q1", "m2", 1, 1, 0), ("q1", "m3", 0, 0, 0))  # m4 has no label yet
    card, rows = again(tmp_path, sides)
    assert rows == [
        {"request_id": "q1", "user_id": "u1", "item_id": "m1", "creator_id": "c1", "candidate_rank": None,
         "incumbent_rank": 0.0, "predicted": pytest.approx(0.1), "clicked": 0},
        {"request_id": "q1", "user_id": "u1", "item_id": "m2", "creator_id": "c1", "candidate_rank": None,
         "incumbent_rank": 1.0, "predicted": pytest.approx(0.2), "clicked": 1},
        {"request_id": "q1", "user_id": "u1", "item_id": "m3", "creator_id": "c1", "candidate_rank": 1.0,
         "incumbent_rank": None, "predicted": pytest.approx(0.3), "clicked": 0},
        {"request_id": "q1", "user_id": "u1", "item_id": "m4", "creator_id": "c1", "candidate_rank": 0.0,
         "incumbent_rank": None, "predicted": pytest.approx(0.4), "clicked": None},
    ]  # fmt: skip
    assert card == Card(
        month=MONTH, line="new", candidate="new-2", incumbent="old-1", logged=1, drawn=1, requests=1, rows=4, left_out={},
        candidate_until="2026-12-20T00:00:00+00:00", incumbent_until="2027-01-05T00:00:00+00:00",
    )  # fmt: skip


def test_each_side_is_ordered_by_its_own_formula(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, [*page("q1")])
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    _, rows = again(tmp_path, sides, candidate=sides["likes"], incumbent=sides["shy"])
    assert places(rows, "candidate") == {"m1": 0.0, "m4": 1.0}  # 1.0, 0.4; left are 0.3 and 0.2
    assert places(rows, "incumbent") == {"m1": 0.0, "m2": 1.0}  # -0.1, -0.2; left are -0.3 and -0.4


def test_places_count_within_each_request(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, [*page("q1"), shown("q2", "m3", 0), shown("q2", "m1", 1, days=0.1), *page("q3", days=9)])
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    card, rows = again(tmp_path, sides)
    assert (card.logged, card.requests, card.rows) == (3, 3, 10)
    assert places(rows, "candidate", "q2") == {"m3": 0.0}  # of two items one is shown
    assert places(rows, "candidate", "q3") == {"m4": 0.0, "m3": 1.0}


def test_equal_scores_do_not_inherit_the_logged_order(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, [one for n in range(60) for one in page(f"q{n}")])
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    _, rows = again(tmp_path, sides, candidate=sides["same"])
    firsts = [row["item_id"] for row in rows if row["candidate_rank"] == 0.0]
    assert (
        min(firsts.count(item) for item in OURS) >= 8
    )  # 20 each are to be expected, fewer than 8 of 60 at odds of 1e-4


def test_a_request_is_left_out_whole_where_one_item_lacks_what_an_encoder_reads(
    tmp_path: Path, sides: dict[str, Path]
) -> None:
    old = {name: value for name, value in features("m2").items() if name != "item.tags"}
    store(tmp_path, [
        *page("q1"), shown("q2", "m1", 0), shown("q2", "m2", 1, features=None), shown("q3", "m1", 0),
        shown("q3", "m2", 1, features=old),
    ])  # fmt: skip
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    card, rows = again(tmp_path, sides)
    assert {row["request_id"] for row in rows} == {"q1"}
    assert (card.drawn, card.requests) == (3, 1)
    assert card.left_out == {"no logged features": 1, "no feature item.tags": 1}


def test_what_was_sent_twice_and_what_showed_nothing_is_not_counted(tmp_path: Path, sides: dict[str, Path]) -> None:
    empty = s.EmptyFeed(event_id="q8:empty", event_at=at(1), request_id="q8", user_id="u1")
    store(tmp_path, [*page("q1"), shown("q1", "m1", 0, days=0.2, event_id="again"), empty, *page("q9", days=31.5)])
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    card, rows = again(tmp_path, sides)
    assert (card.logged, card.rows, len(rows)) == (1, 4, 4)


def test_a_month_without_anything_to_order_leaves_no_file(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, page("q1", features=None))
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    with pytest.raises(
        NothingToRerank, match=r"no request of 2027-01 .* 1 were logged, left out were 1 with no logged"
    ):
        again(tmp_path, sides)
    assert not list(tmp_path.glob("*.parquet*")) and not list(tmp_path.glob(".*.parquet*"))


def test_a_release_is_not_held_against_itself_and_a_month_is_a_month(tmp_path: Path, sides: dict[str, Path]) -> None:
    with pytest.raises(BadReranked, match="release old-1 cannot be held against itself"):
        again(tmp_path, sides, candidate=sides["incumbent"])
    with pytest.raises(BadReranked, match="'2027' is no month"):
        rerank(tmp_path, "2027", candidate=sides["candidate"], incumbent=sides["incumbent"], out=tmp_path / "o")
    with pytest.raises(NoTable, match="the collector makes it"):
        again(tmp_path, sides)


def test_requests_are_drawn_uniformly_over_the_days(tmp_path: Path) -> None:
    """600 requests on the first day and 300 on the second: of 300 drawn, 200 are to be expected of the first."""
    store(tmp_path, [shown(f"q{n}", "m1", 0, days=0.1 if n % 3 else 1.1, features=None) for n in range(900)])
    table, dates = need_table(tmp_path, "impressions", made_by="nobody"), [date(2027, 1, 1), date(2027, 1, 2)]
    logged, drawn = draw(table, dates, 300)
    assert (logged, sum(map(len, drawn.values()))) == (900, 300)
    assert len(drawn[dates[0]]) == pytest.approx(200, abs=30)  # 4.5 standard errors of drawing without replacement
    assert draw(table, dates, 300) == (logged, drawn)
    assert {one for ids in draw(table, dates, 100)[1].values() for one in ids} <= {
        one for ids in drawn.values() for one in ids
    }


# --- the commands ------------------------------------------------------------------------------------------------------


@pytest.fixture
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIVEFEED_VAR", str(tmp_path))
    return tmp_path


def platform(var: Path) -> None:
    """400 viewers, half of them of each language, one request each, all answered by old-1."""
    events: list[s.Event] = [published(item, days=-4, creator=f"c{item}") for item in OURS]
    rows = []
    for n in range(400):
        events.append(viewer(f"u{n}", days=-3, language="en" if n % 5 else "de", gender="female", age_band="18-24"))
        events += page(f"q{n}", user=f"u{n}", days=0.5 + n / 1_000)
        rows += [(f"q{n}", item, int(item == f"m{n % 4 + 1}"), 0, 0) for item in OURS]
    store(var / "lake", events)
    label(var / "lake", *rows)
    release(var / "candidates", OURS, line="new", version=2)
    release(var / "releases", THEIRS, line="old", version=1)
    point_live(var / "releases", {"stable": "old-1"})


def test_a_candidate_that_nobody_met_is_audited_on_what_it_would_have_ordered(var: Path) -> None:
    platform(var)
    file, out = str(var / "again.parquet"), str(var / "audits")
    run = CliRunner()
    made = run.invoke(cli.app, ["training", "rerank", "--month", MONTH, "--line", "new", "--out", file])
    assert made.exit_code == 0 and made.stdout.strip() == file, made.stderr
    words = ["audit", "--month", MONTH, "--line", "new", "--out", out, "--min-viewers", "50", "--min-events", "10"]
    run.invoke(cli.app, ["monitoring", *words, "--reranked", file])
    record = read_record(Path(out), "new", MONTH)
    assert record is not None
    assert (record.source, record.releases, record.incumbents) == ("reranked", ("new-2",), ("old-1",))
    cells = [one for one in record.cells if one.family.metric == "clicks_by_place" and one.check == "level"]
    assert {one.group: one.viewers for one in cells if one.family.dimension == "language"} == {"de": 80, "en": 320}
    # of the 80 each of the four items was clicked by 20; m4 is first, worth 1, m3 second, worth 1 / log2(3)
    worth = 1 / 1.5849625007211562
    de = next(one for one in cells if one.group == "de")
    assert de.value == pytest.approx((20 * 1.0 + 20 * worth) / (80 * (1.0 + worth)))
    texts = [one.text for one in record.troubles]
    assert "400 requests with 1,600 items, of 400 drawn from 400 logged" in texts


def test_without_a_candidate_nothing_is_written_and_it_is_said(var: Path) -> None:
    found = CliRunner().invoke(cli.app, ["training", "rerank", "--month", MONTH, "--out", str(var / "o.parquet")])
    assert found.exit_code == 0 and "line demo has no candidate" in found.stderr
    assert not (var / "o.parquet").exists()


def test_a_wrong_month_is_named_though_there_is_no_candidate(var: Path) -> None:
    found = CliRunner().invoke(cli.app, ["training", "rerank", "--month", "May", "--out", str(var / "o.parquet")])
    assert (found.exit_code, found.stderr.strip()) == (1, "'May' is no month; write it like 2027-01")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nobody-1", "--month", MONTH), "there is no candidate or release 'nobody-1' in "),
        (("new-2", "--against", "gone-3", "--month", MONTH), "there is no candidate or release 'gone-3' in "),
        (("new-2", "--month", "May"), "'May' is no month; write it like 2027-01"),
        (("new-2", "--against", "new-2", "--month", MONTH), "release new-2 cannot be held against itself"),
    ],
)
def test_what_is_wrong_is_one_sentence(var: Path, words: tuple[str, ...], sentence: str) -> None:
    release(var / "candidates", OURS, line="new", version=2)
    release(var / "releases", THEIRS, line="old", version=1)
    point_live(var / "releases", {"stable": "old-1"})
    found = CliRunner().invoke(cli.app, ["training", "rerank", *words, "--out", str(var / "o.parquet")])
    assert (found.exit_code, found.stderr.strip().startswith(sentence)) == (1, True), found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_the_file_holds_its_card_in_its_metadata(tmp_path: Path, sides: dict[str, Path]) -> None:
    store(tmp_path, page("q1"))
    label(tmp_path, ("q1", "m1", 0, 0, 0))
    again(tmp_path, sides)
    assert pq.read_metadata(tmp_path / "out.parquet").num_rows == 4
    for wrong, sentence in (
        ({"month": "2026-12"}, "month 2027-01; asked for is 2026-12"),
        ({"line": "old"}, "line new"),
    ):
        with pytest.raises(BadReranked, match=sentence):
            read_reranked(tmp_path / "out.parquet", **({"month": MONTH, "line": "new"} | wrong))
    (tmp_path / "no.parquet").write_text("text")
    with pytest.raises(BadReranked, match=r"no\.parquet cannot be read"):
        read_reranked(tmp_path / "no.parquet", month=MONTH, line="new")
