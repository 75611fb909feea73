"""Named worlds, their null twins and the prior; the demo's world stays as it was."""

import hashlib
from dataclasses import fields, replace
from typing import Any

import pytest
from typer.testing import CliRunner

from events import schema as s
from events.topics import encode
from simulator import BadDial, RandomFeed, World, WorldConfig
from simulator.__main__ import app
from simulator.dials import Change
from simulator.worlds import LIVE_FIRST, PRIOR, WORLDS, named, prior, turned


class Digest:
    """A writer that keeps a hash of what it was sent."""

    def __init__(self) -> None:
        self.hash, self.sent = hashlib.sha256(), 0

    def send(self, event: s.Event) -> None:
        self.hash.update(encode(event))
        self.sent += 1

    def send_raw(self, topic: str, *, key: bytes | None, value: bytes, headers: object = ()) -> None:
        self.hash.update(value)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def test_the_demos_world_plays_the_events_it_played_before_worlds_had_names() -> None:
    """The digest is of the release before; a change of it changes what the demo's gate was tried on."""
    world, digest = World(named("demo")), Digest()
    world.advance(24.0, digest, RandomFeed(world.on, seed=7, writer=digest))
    assert digest.sent == 29_187
    assert digest.hash.hexdigest()[:16] == "6f1f52e8a3d13be3"


def test_the_demo_world_is_the_default_and_stands_still() -> None:
    assert named("demo") == WorldConfig()
    assert named("demo").change == Change()
    assert not named("demo").paired


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "demo"])
def test_every_other_world_is_paired_and_plays(name: str) -> None:
    small = replace(named(name), viewers=30, hosts=30, creators=10, items=40)
    world, digest = World(small), Digest()
    done = world.advance(6.0, digest, RandomFeed(world.on, seed=1))
    assert small.paired
    assert done.sessions > 5
    assert done.feed_errors == 0


@pytest.mark.parametrize(
    ("name", "dials"),
    [
        ("no-drift", {"change.interest_drift", "change.hour_taste", "change.quality_drift", "change.shocks_per_day",
                      "change.highlights_per_hour", "change.status_taste", "change.births_per_day",
                      "change.retirement_per_day", "change.late_joiners"}),
        ("no-delay", {"rates.follow_after_s", "rates.gift_after_s", "rates.late_sigma", "change.group_delay"}),
        ("no-position-bias", {"position_bias", "position_bias_playback", "position_bias_comment", "click_offset",
                              "change.page_left_after_click"}),
        ("no-group-bias", {"change.group_taste", "change.group_click_gap", "change.group_delay"}),
    ],
)  # fmt: skip
def test_a_null_world_is_live_first_with_one_cause_taken_away(name: str, dials: set[str]) -> None:
    assert differing(named(name), LIVE_FIRST) == dials


def differing(one: WorldConfig, other: WorldConfig) -> set[str]:
    out = set()
    for field in fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if field.name in ("pulls", "rates", "change"):
            out |= {f"{field.name}.{f.name}" for f in fields(mine) if getattr(mine, f.name) != getattr(theirs, f.name)}
        elif mine != theirs:
            out.add(field.name)
    return out


def test_ten_worlds_of_the_prior_differ_stay_in_range_and_come_again() -> None:
    worlds = prior(seed=1, n=10)
    assert worlds == prior(seed=1, n=10)
    assert worlds[:3] == prior(seed=1, n=3)
    assert worlds != prior(seed=2, n=10)
    assert len({world.seed for world in worlds}) == 10
    for dial, (low, high) in PRIOR.items():
        group, _, name = dial.rpartition(".")
        values = [getattr(getattr(world, group) if group else world, name) for world in worlds]
        assert all(low <= value <= high for value in values), dial
        assert len(set(values)) == 10, dial
    assert differing(worlds[0], LIVE_FIRST) <= {*PRIOR, "seed"}


def test_a_dial_can_be_turned_by_its_name() -> None:
    assert turned(WorldConfig(), "viewers", "12").viewers == 12
    assert turned(WorldConfig(), "change.leaving", "0.5").change.leaving == 0.5
    assert turned(WorldConfig(), "paired", "true").paired


@pytest.mark.parametrize(
    ("dial", "value", "message"),
    [
        ("change.leaving", "1.5", "world dial change.leaving=1.5 is not allowed; give a number from 0 to 1"),
        ("rates.liked", "-0.1", "world dial rates.liked=-0.1 is not allowed; give a number from 0 to 1"),
        ("pulls.match", "nan", "world dial pulls.match=nan is not allowed; give a number from 0 to 10"),
        ("change.days_off", "1", "world dial change.days_off=1.0 is not allowed; give a number from 0 to 0.95"),
        ("items", "0", "world dial items=0 is not allowed; give a number from 1 to 1000000"),
        ("viewers", "many", "world dial viewers='many' is not allowed; give a value like 300"),
        ("paired", "1", "world dial paired='1' is not allowed; give a value like False"),
        ("colour", "1", "world dial 'colour' is not known; docs/world.md lists them"),
        ("change", "1", "world dial 'change' is not known; docs/world.md lists them"),
        ("start_at", "1", "world dial 'start_at' is not known; docs/world.md lists them"),
        ("nowhere.leaving", "1", "world dial 'nowhere.leaving' is not known; docs/world.md lists them"),
    ],
)
def test_a_bad_turn_is_refused_by_name_and_range(dial: str, value: str, message: str) -> None:
    with pytest.raises(BadDial) as refused:
        turned(WorldConfig(), dial, value)
    assert message in str(refused.value)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_the_worlds_are_listed_with_their_purpose_and_one_with_its_dials() -> None:
    listed = run("worlds")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(WORLDS)
    dials = dict(line.split(maxsplit=1) for line in run("worlds", "no-delay").stdout.splitlines())
    assert dials["rates.follow_after_s"] == "1.0"
    assert dials["change.leaving"] == "0.3"
    assert dials["viewers"] == "5000"


def test_an_unknown_world_is_refused_with_the_names_there_are() -> None:
    for words in (("worlds", "mars"), ("run", "--world", "mars", "--dry-run")):
        done = run(*words)
        assert done.exit_code == 1
        assert done.stderr.startswith("livefeed: world 'mars' is not known; allowed are demo, live-first, ")


def test_a_named_world_runs_with_its_own_dials_but_for_those_given() -> None:
    done = run(
        "run", "--dry-run", "--world", "live-first", "--hours", "3", "--viewers", "50", "--hosts", "40",
        "--dial", "change.late_joiners=0",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    table = dict(line.rsplit(maxsplit=1) for line in done.stdout.splitlines())
    assert int(table["messages to profiles"]) >= 50 + 40 + 100
    bad = run("run", "--dry-run", "--dial", "change.late_joiners=2")
    assert (bad.exit_code, bad.stderr) == (
        1, "livefeed: world dial change.late_joiners=2.0 is not allowed; give a number from 0 to 1\n",
    )  # fmt: skip
