"""The page of a canary: what a reader must find on it."""

import re
from pathlib import Path

import pytest

from monitoring.canary_log import Crash, decide, hold, read_log
from monitoring.canary_page import to_html, write_page
from monitoring.errors import BadRecord
from tests.monitoring.canary_stories import AUDIT, STARTED, arm, look, looks, plan


def test_a_promoted_canary_s_page_says_so_with_its_numbers_and_a_plot_a_metric(tmp_path: Path) -> None:
    seen = [look(h, arm(ctr=0.24)) for h in (1, 2, 3)] + [look(4, missing_hours=(4,)), look(48, arm(ctr=0.24))]
    decide(tmp_path / "log", looks(*seen), audit=AUDIT)
    page = write_page(read_log(tmp_path / "log"), tmp_path / "pages" / "7.html").read_text(encoding="utf-8")
    assert "<b>promote</b>, verdict pass, because: beats_baseline" in page
    assert page.count("<img ") == 3
    assert re.search(r"<td class='word'>gain_unadjusted</td><td class='word'>ctr</td><td>0.24</td><td>0.2</td>", page)
    assert "1 to 3" in page and "data of hour 4 are not complete" in page


def test_the_same_log_gives_the_same_page(tmp_path: Path) -> None:
    made = decide(tmp_path / "log", looks(look(1), look(2, arm(ctr=0.16))))
    assert to_html(made) == to_html(read_log(tmp_path / "log"))


def test_a_canary_that_was_never_looked_at_has_a_page_with_its_crash(tmp_path: Path) -> None:
    page = to_html(hold(tmp_path / "log", plan(), Crash(1, STARTED, "OSError: <no table>")))
    assert "OSError: &lt;no table&gt;" in page
    assert "None: the look could not be judged." in page


def test_no_decisions_have_no_page() -> None:
    with pytest.raises(BadRecord, match="without decisions has no page"):
        to_html([])
