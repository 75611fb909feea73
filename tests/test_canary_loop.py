"""A canary on the real parts, driven by Dagster: viewers who dislike it, and what every part says before and after.

The viewers are scripted: whoever is answered by the canary clicks a fifth as often. Their feeds come from the proxy, their
clicks go through Kafka and the collector into the tables that the gate reads.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
import pytest

from events import schema as s
from events.clock import utc
from events.kafka import KafkaWriter
from features.definitions import Entity
from features.redis import RedisStore
from monitoring.canary_gate import Action
from monitoring.canary_plan import CanaryConfig
from registry.experiment import Experiment, State
from registry.manifest import point_live, read_live, read_manifest, write_manifest
from registry.mlflow_store import CHALLENGER, CHAMPION, MlflowRegistry
from registry.verdict import Reason, write_verdict
from release.deploy import deploy
from release.promotion_plan import PromotionConfig
from serving.tf_serving import TfServing
from stack.demo.canary import Drive, Ended, backwards
from stack.demo.run import ask, wait_for_release
from stack.demo.stored import Stored
from stack.parts import Parts
from tests.serving.test_real_parts import PASS, Loud, until

# After the events of the tests that run before this one, and before those of test_loop.py, which would otherwise be late.
START = datetime(2027, 5, 15, 12, tzinfo=UTC).timestamp()
HOUR, LINE, VIEWERS, HOURS = 3_600.0, "canarytest", 120, 3
CONFIG = PromotionConfig(
    share=0.5, baseline=0.0, ramp_share=0.5, ramp_hours=0.0, segments=(),
    planned={"ctr": 0.03, "completion_rate": 0.02, "session_depth": 0.02},
    gate=CanaryConfig(
        hours=HOURS, day_hours=HOURS, max_hours=HOURS, mde=0.5, margin=0.3, min_viewers=20, min_events=20,
        check_fading=False,
    ),
)  # fmt: skip
pytestmark = [pytest.mark.parts, pytest.mark.timeout(600)]


@dataclass
class Evening:
    """A release in traffic, its variant with the wrong sign, and the viewers in front of both."""

    parts: Parts
    stable: str
    candidate: Path
    writer: KafkaWriter
    now: float = START
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)  # feeds by arm and release

    def hour(self) -> None:
        """Every viewer asks once; whoever likes the first item clicks and starts it, and every second one plays it out."""
        for number in range(VIEWERS):
            at = self.now + 20.0 * number
            page = ask(self.parts.settings, f"canary-viewer-{number}", now=at)
            self.answered[page["arm"], page["release"]] += 1
            likes = 10 if page["release"] == self.stable else 2
            if (7 * number + round((at - START) / HOUR) * 3) % 20 < likes:
                self._watch(page, f"canary-viewer-{number}", at, to_the_end=number % 2 == 0)
        self.now += HOUR

    def _watch(self, page: dict[str, object], user: str, at: float, *, to_the_end: bool) -> None:
        request = str(page["request_id"])
        item = page["items"][0]["item_id"]  # type: ignore[index]
        what = {"user_id": user, "item_id": item, "request_id": request}
        self.writer.send(s.FeedClicked(event_id=f"{request}-c", event_at=utc(at + 2), position=0, **what))
        self.writer.send(s.MediaStarted(event_id=f"{request}-s", event_at=utc(at + 3), **what))
        if to_the_end:
            self.writer.send(s.MediaCompleted(event_id=f"{request}-e", event_at=utc(at + 63), **what))

    def stored(self) -> None:
        """Until everything so far is in the tables."""
        self.writer.flush()
        Stored(self.parts.settings).wait()


@dataclass
class Told:
    """One canary from its start to its end."""

    evening: Evening
    drive: Drive
    started: Experiment
    during: Ended
    ended: Ended


@pytest.fixture(scope="module")
def evening(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evening]:
    """A release of the small world in traffic; what was in traffic before comes back."""
    from tests.serving.small_models import write_models

    settings, folder = parts.settings, tmp_path_factory.mktemp("canary")
    before, world = read_live(settings.releases), Loud(folder)
    world.writer = KafkaWriter(settings.kafka)
    world.name._next = 77_000_000_000
    world.fill()
    world.writer.flush()
    until(lambda: "m29" in RedisStore(settings.redis).ids(Entity.ITEM))
    registry = MlflowRegistry(settings.mlflow)
    made = world.release(registry.next_version(LINE) + 2_000_000, live=False)
    write_manifest(made, msgspec.structs.replace(read_manifest(made), line=LINE))
    made = made.rename(made.with_name(read_manifest(made).name))
    write_models(made, world.encoder())
    write_verdict(made, PASS)
    registry.register(made, read_manifest(made), {})
    deploy(made, PASS, releases=settings.releases, models=settings.models, server=TfServing(settings.model_server),
           registry=registry)  # fmt: skip
    wait_for_release(settings, made.name, say=print)
    candidate = backwards(settings.releases / made.name, line=f"{LINE}-backwards", into=folder)
    yield Evening(parts, made.name, candidate, world.writer)
    world.writer.close()
    point_live(settings.releases, before)


@pytest.fixture(scope="module")
def told(evening: Evening) -> Told:
    """An hour before, the canary's three hours and a little more, and one run of Dagster's job."""
    evening.hour()
    evening.stored()
    drive = Drive(evening.parts.settings, say=print)
    started = drive.start(evening.candidate, config=CONFIG, why="a test")
    during = drive.ended(started)
    for _ in range(HOURS + 1):
        evening.hour()
    evening.stored()
    return Told(evening, drive, started, during, drive.evaluate(started))


def test_half_of_the_viewers_were_answered_by_the_canary_and_the_tables_say_so(told: Told) -> None:
    evening, name = told.evening, told.evening.candidate.name
    experiment = {key: n for key, n in evening.answered.items() if key[0] == "canary" or key[1] == evening.stable}
    assert experiment == dict(evening.answered)  # each arm by its own release
    feeds = evening.answered["canary", name]
    assert 0.35 < feeds / (VIEWERS * (HOURS + 1)) < 0.65
    stored = told.drive.traffic(told.started.created_at + 1.0, hours=8)
    assert stored["canary", name] == 10 * feeds
    assert {release for arm, release in stored if arm == "canary"} == {name}


def test_the_model_server_answered_under_both_labels_while_it_ran_and_under_stable_alone_after(told: Told) -> None:
    version = read_manifest(told.evening.candidate).version
    both = {"two_tower": version, "ranker": version}
    assert told.during.labels == {"stable": both, "canary": both}
    assert told.ended.labels["stable"] == both
    assert all("canary" in str(said) for said in told.ended.labels["canary"].values())
    assert told.ended.live == {"stable": told.evening.stable}


def test_what_viewers_dislike_is_rolled_back_with_its_reason_and_its_page(told: Told) -> None:
    ended = told.ended
    assert ended.action is Action.ROLLBACK
    assert ended.reasons == (Reason.HARMED,)
    assert (ended.experiment.state, ended.experiment.settled) == (State.ROLLED_BACK, True)
    assert ended.experiment.id in ended.page.read_text(encoding="utf-8")
    assert "ctr is -" in ended.line


def test_every_decision_comes_out_of_the_log_again(told: Told) -> None:
    assert told.ended.entries
    assert told.ended.replayed


def test_the_challengers_alias_comes_and_goes_and_champion_stays_where_it_was(told: Told) -> None:
    name = told.evening.candidate.name
    assert CHALLENGER in told.during.aliases[name]
    assert told.ended.aliases[name] == ()
    assert CHAMPION in told.ended.aliases[told.evening.stable]


def test_afterwards_everybody_is_answered_by_the_stable_release_and_it_is_read_back(told: Told) -> None:
    evening = told.evening
    evening.answered.clear()
    evening.hour()
    evening.stored()
    assert evening.answered == {("stable", evening.stable): VIEWERS}
    again = told.drive.evaluate(told.started)
    assert again.experiment.read_back.startswith(f"of {10 * VIEWERS} impressions since, 0 in the canary's arm and 0 ")
    assert again.entries == told.ended.entries  # latched: nothing is decided twice


def test_the_proxy_says_that_the_experiment_is_over(told: Told) -> None:
    found = httpx.get(f"{told.evening.parts.settings.admin}/admin/experiments").json()
    assert found[told.started.id]["state"] == "rolled_back"
