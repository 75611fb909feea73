"""A canary on running parts, driven as an operator would: started, waited for, evaluated by Dagster, read back from outside.

    drive = Drive(settings, say=print)
    one = drive.start(candidate, config=SHORT, why="the wrong sign")      # viewers must come meanwhile
    ended = drive.evaluate(one)                                           # looks, decision, labels: Dagster's job
    ended.line                                                            # "backwards-1: rollback (harmed). ..."

Nothing here makes viewers come: whoever has a world, or a platform, plays it on between the two.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from monitoring.canary_gate import Action
from monitoring.canary_log import Entry, closing, read_log, replay
from monitoring.canary_plan import CanaryConfig
from monitoring.errors import BadRecord
from registry.experiment import Experiment, Experiments
from registry.manifest import read_live, read_manifest
from registry.mlflow_store import MlflowRegistry
from registry.verdict import read_verdict
from release.canary_rows import traffic_since
from release.promotion import Promotion
from release.promotion_parts import open_promotion
from release.promotion_plan import PromotionConfig
from release.publish import check
from release.served import labelled
from release.traffic import CANARY
from release.variant import make_variant
from serving.feed import STABLE
from serving.tf_serving import TfServing
from settings import Settings
from stack.demo.child import follow
from stack.demo.steps import Say
from stack.demo.stored import until
from stack.errors import StackError

HOURS = 6
FOLLOWED_S = 30.0  # wall seconds in which proxies must have the record
# Six hours, half of a small world's viewers: only differences of tens of per cent can be seen, and the dials say so.
SHORT = PromotionConfig(
    share=0.5, baseline=0.0, ramp_share=0.5, ramp_hours=0.0,
    gate=CanaryConfig(
        hours=HOURS, day_hours=HOURS, max_hours=HOURS, mde=0.3, margin=0.1, min_viewers=100, segment_min_viewers=60,
        check_fading=False,
    ),
)  # fmt: skip


class CanaryFailed(StackError):
    """A canary's step did not do what it is for; the message says which and what was seen."""


@dataclass(frozen=True)
class Ended:
    """What became of a canary: its decisions so far, the record, the page, and what the parts say by now."""

    experiment: Experiment
    entries: tuple[Entry, ...]
    page: Path
    labels: Mapping[str, Mapping[str, int | str]]  # label -> model -> the version that answers, or the server's words
    aliases: Mapping[str, tuple[str, ...]]  # registered release -> its aliases
    live: Mapping[str, str]  # label -> release

    @property
    def last(self) -> Entry | None:
        """The final decision, else the newest; None where nothing was decided."""
        return closing(self.entries) or (self.entries[-1] if self.entries else None)

    @property
    def action(self) -> Action | None:
        """The action of that decision."""
        return self.last.decision.action if self.last else None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Its reasons."""
        return tuple(map(str, self.last.decision.verdict.reasons)) if self.last else ()

    @property
    def replayed(self) -> bool:
        """Whether every decision comes out of the log again as it was made."""
        try:
            return all(replay(entry) == entry.decision for entry in self.entries)
        except BadRecord:  # an input that is not the one that was judged
            return False

    @property
    def line(self) -> str:
        """The verdict in one line."""
        if self.last is None:
            return f"canary {self.experiment.release}: nothing was decided"
        said = self.last.decision
        return f"canary {self.experiment.release}: {said.verdict.outcome} ({', '.join(self.reasons)}): {said.text}"


class Drive:
    """Canaries on the parts that the settings reach; the clock is the newest stored impression."""

    def __init__(self, settings: Settings, *, say: Say) -> None:
        self._settings, self._say = settings, say
        self._registry, self._server = MlflowRegistry(settings.mlflow), TfServing(settings.model_server)

    @property
    def promotion(self) -> Promotion:
        """The promotions of these parts."""
        settings = self._settings
        return open_promotion(
            settings.var, model_server=settings.model_server, mlflow=settings.mlflow, proxies=[settings.admin],
            token=settings.admin_token, time_lapse=True, who="demo", report=lambda line: self._say(f"   {line}"),
        )  # fmt: skip

    def register(self, candidate: Path) -> None:
        """Enter a candidate in MLflow: what is promoted must be known there."""
        self._registry.register(candidate, read_manifest(candidate), {})

    def start(self, candidate: Path, *, config: PromotionConfig, why: str) -> Experiment:
        """Bring a candidate that passed offline into traffic as canary, and return once the proxy assigns viewers to it."""
        self.register(candidate)
        one = self.promotion.start(candidate, read_verdict(candidate), why=why, config=config)
        self._wait(lambda status: status.get(one.id, {}).get("state") == str(one.state), f"{one.id} as {one.state}")
        return one

    def evaluate(self, one: Experiment) -> Ended:
        """Have Dagster look, decide and act, whatever is due; CanaryFailed when its run fails but for a hold's sake."""
        failure = materialise(self._settings, "canary", say=self._say)
        ended = self.ended(one)
        if failure and ended.action is not Action.HOLD:
            raise CanaryFailed(f"Dagster's job canary failed: {failure}")
        state = str(ended.experiment.state)
        self._wait(lambda status: status.get(one.id, {"state": state}).get("state") == state, f"{one.id} as {state}")
        return self.ended(one)

    def now(self, one: Experiment) -> Experiment:
        """The experiment as the record has it; CanaryFailed when another has taken its place."""
        found = Experiments(self._settings.releases).read().experiment
        if found is None or found.id != one.id:
            raise CanaryFailed(f"experiment {one.id} is not in the record; there is {found.id if found else 'none'}")
        return found

    def ended(self, one: Experiment) -> Ended:
        """What the record, the log and the parts say."""
        experiment, promotion = self.now(one), self.promotion
        lines = {experiment.line, experiment.control_line}
        aliases = {held.name: held.aliases for held in self._registry.releases() if held.line in lines}
        return Ended(
            experiment, tuple(read_log(promotion.log(experiment))), promotion.page(experiment), self.labels(), aliases,
            read_live(self._settings.releases),
        )  # fmt: skip

    def labels(self) -> dict[str, dict[str, int | str]]:
        """By label: the version by which each model answers a Predict that names the label alone, read back by gRPC."""
        stable = check(self._settings.releases / read_live(self._settings.releases)[STABLE])
        return {label: labelled(self._server, stable, label) for label in (STABLE, CANARY)}

    def traffic(self, since: float, *, hours: int) -> dict[tuple[str, str], int]:
        """Stored impressions by arm and release from an event time on."""
        return traffic_since(self._settings.lake, since, hours=hours)

    def _wait(self, true: Any, what: str) -> None:
        token = self._settings.admin_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}

        def said() -> bool:
            found = httpx.get(f"{self._settings.admin}/admin/experiments", headers=headers, timeout=5.0)
            return bool(true(found.json()))

        if not until(said, timeout_s=FOLLOWED_S):
            raise CanaryFailed(f"the proxy does not have {what} after {FOLLOWED_S:.0f} s")


def wrong_sign(settings: Settings, release: str, *, play: Callable[[float], None], say: Say) -> Ended:
    """The demo's canary: the release in traffic against its own models with the wrong sign, which must not get through.

    `play` lets so many hours of event time pass, viewers and all, and returns when what happened is stored.
    """
    drive = Drive(settings, say=say)
    candidate = backwards(
        settings.releases / release, line=f"{settings.line}-backwards", into=settings.var / "candidates"
    )
    one = drive.start(candidate, config=SHORT, why="the demo shows a canary that must not get through")
    play(HOURS + 0.5)
    ended = drive.evaluate(one)
    for label, said in ended.labels.items():
        versions = ", ".join(f"{model} {version}" for model, version in said.items() if isinstance(version, int))
        say(f"   as {label} the model server answers with {versions or 'nothing'}")
    return ended


def backwards(release: Path, *, line: str, into: Path) -> Path:
    """A variant of a release that ranks with the wrong sign: what would be clicked least comes first."""
    return make_variant(release, line=line, formula={"click": -1.0}, into=into)


def canary_figures(ended: Ended | None) -> dict[str, Any] | None:
    """What a summary says of a canary; None where there was none."""
    if ended is None:
        return None
    last = ended.last.decision if ended.last else None
    return {
        "experiment": ended.experiment.id, "state": str(ended.experiment.state), "live": dict(ended.live),
        "action": str(last.action) if last else None, "outcome": str(last.verdict.outcome) if last else None,
        "reasons": list(ended.reasons), "hour": last.hour if last else None, "looks": len(ended.entries),
        "replayed": ended.replayed, "page": str(ended.page),
    }  # fmt: skip


def materialise(settings: Settings, job: str, *, say: Say, arguments: tuple[str, ...] = ()) -> str:
    """Run a Dagster job in a process of its own; what failed as a sentence, "" when nothing did."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stack.demo.materialise", job, *arguments],
        env={**os.environ, **settings.environment()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    lines = follow(process, say)
    return (lines[-1] if lines else f"exit status {process.returncode}") if process.returncode else ""
