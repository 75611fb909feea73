"""Upkeep is done by one at a time, builds by many but not while a person is erased; the locks end with their processes."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from events.clock import SetClock
from features.errors import LockHeld
from features.table_lock import (
    appending,
    appends_paused,
    building,
    builds,
    collecting,
    no_builds,
    no_collectors,
    upkeep,
)

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from features.table_lock import upkeep
with upkeep(Path(sys.argv[1]), "vacuum"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_who_holds_the_upkeep_of_a_lake_and_for_how_long_is_said(lake: Path) -> None:
    said = r"upkeep\.lock is held by vacuum \(process \d+ on .*\) for 90 s"
    with (
        upkeep(lake, "vacuum", clock=SetClock(1000.0)),
        pytest.raises(LockHeld, match=said),
        upkeep(lake, "forgetting", clock=SetClock(1090.0)),
    ):
        pass


def test_upkeep_is_free_again_when_its_holder_is_done(lake: Path) -> None:
    with upkeep(lake, "vacuum"):
        pass
    with upkeep(lake, "forgetting"):
        pass


def test_builds_share_their_lock_and_keep_forgetting_out(lake: Path) -> None:
    with (
        building(lake, "samples"),
        building(lake, "feature tables"),
        pytest.raises(LockHeld, match="feature tables"),
        no_builds(lake, "forgetting"),
    ):
        pass


def test_nothing_is_built_while_a_person_is_erased(lake: Path) -> None:
    with (
        no_builds(lake, "forgetting"),
        pytest.raises(LockHeld, match="forgetting"),
        building(lake, "samples", wait_s=0.0),
    ):
        pass


def test_a_function_that_builds_holds_the_lock_while_it_runs(lake: Path) -> None:
    @builds("samples")
    def build(_: None, lake: Path, *, days: int) -> int:
        with pytest.raises(LockHeld, match="samples"), no_builds(lake, "forgetting"):
            pass
        return days

    assert build(None, lake, days=3) == 3
    with no_builds(lake, "forgetting"):
        pass


def test_appends_share_their_table_and_wait_while_they_are_paused(lake: Path) -> None:
    with (
        appending(lake, "engagement"),
        appending(lake, "engagement"),
        pytest.raises(LockHeld),
        appends_paused(lake, "engagement", wait_s=0.0),
    ):
        pass
    with (
        appends_paused(lake, "engagement"),
        appending(lake, "media", wait_s=0.0),
        pytest.raises(LockHeld, match="a pause of appends"),
        appending(lake, "engagement", wait_s=0.0),
    ):
        pass


def test_builds_and_upkeep_do_not_disturb_each_other(lake: Path) -> None:
    with building(lake, "samples"), upkeep(lake, "compaction"):
        pass


def test_a_killed_holder_leaves_no_stale_lock(lake: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lake)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeld, match=f"process {holder.pid} "), upkeep(lake, "forgetting"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with upkeep(lake, "forgetting"):
        pass


def test_a_rebuild_is_refused_while_a_collector_runs_and_collectors_share(tmp_path: Path) -> None:
    refused = pytest.raises(LockHeld, match="a collector")
    with collecting(tmp_path), collecting(tmp_path), refused, no_collectors(tmp_path):
        pass
    with no_collectors(tmp_path):
        pass
