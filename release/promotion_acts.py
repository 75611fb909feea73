"""What a decision does to traffic, in steps that can each be repeated: labels through the deployer, aliases, the record.

The record decides who sees the canary, so it is written first when the canary must go (proxies follow within a second) and
last when it comes or is promoted: at no moment is a viewer assigned to a release that is not in traffic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from events.clock import Clock
from monitoring.canary_gate import Action, Decision
from registry.evaluation import FIGURES, Evaluation
from registry.experiment import Experiment, Experiments, Record, State, switched_off
from registry.manifest import Manifest, read_live, read_manifest
from registry.verdict import Verdict
from release.deploy import Promotes, deploy, rollback, withdraw
from release.errors import CannotStart, NoExperiment
from release.promotion_start import may_run
from release.proxies import Proxy
from release.served import ModelServer
from release.traffic import CANARY, Report, silent
from serving.feed import STABLE

ENDED = {Action.ROLLBACK: State.ROLLED_BACK, Action.END: State.STOPPED, Action.PROMOTE: State.PROMOTED}


class Aliases(Promotes, Protocol):
    """What a promotion asks of the registry; registry.mlflow_store.MlflowRegistry is one."""

    def register(self, candidate: Path, manifest: Manifest, figures: Mapping[str, float]) -> str:
        """Write its run and its models' versions down; again is harmless."""
        ...

    def challenge(self, line: str, version: int | None) -> None:
        """Point the line's challenger alias at a release; with None take it away. UnknownRelease when not registered."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where releases and models lie, and who is asked when traffic moves; as release.deploy takes them."""

    releases: Path
    models: Path
    server: ModelServer
    registry: Aliases
    proxies: Sequence[Proxy] = ()
    wait_s: float = 60.0
    report: Report = silent

    def traffic(self) -> dict[str, Any]:
        """The arguments of withdraw."""
        return {
            "releases": self.releases, "models": self.models, "server": self.server, "proxies": self.proxies,
            "wait_s": self.wait_s, "report": self.report,
        }  # fmt: skip

    def all(self) -> dict[str, Any]:
        """The arguments of deploy and rollback."""
        return self.traffic() | {"registry": self.registry}


@dataclass(frozen=True, kw_only=True)
class Acts:
    """Moves the experiment and its labels; `who` and the clock's time go into the history."""

    ends: Ends
    clock: Clock
    who: str

    @property
    def experiments(self) -> Experiments:
        """The record."""
        return Experiments(self.ends.releases)

    def running(self) -> Experiment:
        """The experiment that runs; NoExperiment when none does."""
        one = self.experiments.read().experiment
        if one is None or not one.state.runs:
            raise NoExperiment("no experiment runs; livefeed promotion start begins one")
        return one

    def begin(self, candidate: Path, verdict: Verdict, experiment: Experiment, *, why: str) -> None:
        """Bring the canary into traffic under its label, then let the record assign viewers to it.

        A switch, a pin or another canary that came while it was loaded wins: CannotStart, and the label is taken away.
        """
        self.ends.registry.register(candidate, read_manifest(candidate), _figures(candidate))
        deploy(candidate, verdict, label=CANARY, **self.ends.all())
        self.ends.registry.challenge(experiment.line, read_manifest(candidate).version)

        def started(record: Record) -> Record:
            may_run(record)
            return msgspec.structs.replace(record, experiment=experiment)

        try:
            self._write(started, f"{experiment.id}: {experiment.release} began as {experiment.state}", why)
        except CannotStart:
            withdraw(CANARY, **self.ends.traffic())
            self.ends.registry.challenge(experiment.line, None)
            raise

    def go_on(
        self, experiment: Experiment, state: State, *, exposure: float, started_at: float | None, why: str
    ) -> Experiment:  # fmt: skip
        """The next phase."""
        new = msgspec.structs.replace(
            experiment, state=state, exposure=exposure, phase_at=self.clock.now(), started_at=started_at
        )
        self._replace(experiment, new, f"{experiment.id}: {state}", why)
        return new

    def give_up(self, experiment: Experiment, state: State, *, why: str) -> Experiment:
        """End a canary that came to no decision; raises, and can be repeated, when a step fails."""
        return self.settle(self._end(experiment, state, why=why))

    def conclude(self, experiment: Experiment, decision: Decision) -> Experiment:
        """Do what a final decision says; raises, and can be repeated, when a step fails."""
        if decision.action is Action.PROMOTE:
            return self._promote(experiment, decision)
        return self.settle(self._end(experiment, ENDED[decision.action], why=decision.text))

    def _promote(self, experiment: Experiment, decision: Decision) -> Experiment:
        """Stable moves to the canary's release (the champion's alias with it), the record follows, the canary goes.

        The record has what moves and the way back before anything does: whoever stops it halfway must find both.
        """
        release, stable = self.canary_release(experiment), read_live(self.ends.releases).get(STABLE, "")
        moved = not stable or experiment.is_canary(stable)
        way_back = experiment.control_release if moved else stable  # it may have incremented too
        begun = msgspec.structs.replace(experiment, release=release, control_release=way_back)
        if begun != experiment:
            self._replace(experiment, begun, f"{experiment.id}: {release} is to replace {way_back}", decision.text)
        deploy(self.ends.releases / release, decision.verdict, label=STABLE, **self.ends.all())
        return self.settle(self._end(begun, State.PROMOTED, why=decision.text))

    def stop(self, *, why: str) -> Experiment | None:
        """The kill switch: nobody is in any experiment from now on; then labels follow. None where none ran."""
        now = self.clock.now()
        record = self._write(lambda old: switched_off(old, at=now), "experiments switched off", why)
        one = record.experiment
        return one if one is None or one.settled else self.settle(one)

    def resume(self, *, why: str) -> None:
        """Take the kill switch back; what it stopped stays stopped."""
        self._write(lambda old: msgspec.structs.replace(old, killed=False), "experiments switched on", why)

    def pin(self, label: str, *, why: str) -> None:
        """Everybody gets that label's release, "" takes it back; NoExperiment for a label that is not in traffic."""
        live = read_live(self.ends.releases)
        if label and label not in live:
            raise NoExperiment(f"label {label!r} is not in traffic; allowed are {', '.join(live) or 'none yet'}")
        what = f"everybody pinned to {label} ({live[label]})" if label else "pin taken back"
        self._write(lambda old: msgspec.structs.replace(old, pin=label), what, why)

    def revert(self, *, why: str) -> Experiment:
        """After a promotion: the release that was stable before it is stable again; NoExperiment without one."""
        one = self.experiments.read().experiment
        if one is None or one.state is not State.PROMOTED:
            raise NoExperiment("nothing was promoted last; livefeed release rollback puts any release back")
        rollback(one.control_release, label=STABLE, **self.ends.all())
        now = self.clock.now()
        new = msgspec.structs.replace(one, state=State.ROLLED_BACK, phase_at=now, settled_at=now, read_back="")
        self._replace(one, new, f"{one.id}: taken back, {one.control_release} is stable again", why)
        return new

    def settle(self, experiment: Experiment) -> Experiment:
        """Labels and aliases follow a final state: the canary's label and the challenger's alias go.

        A promotion that broke off after stable had moved, and was then ended by hand, is taken back here.
        """
        stable = read_live(self.ends.releases).get(STABLE, "")
        if experiment.state is not State.PROMOTED and experiment.is_canary(stable):
            rollback(experiment.control_release, label=STABLE, **self.ends.all())
        withdraw(CANARY, **self.ends.traffic())
        self.ends.registry.challenge(experiment.line, None)
        done = msgspec.structs.replace(experiment, settled=True, settled_at=self.clock.now())
        self._replace(experiment, done, f"{experiment.id}: labels have followed", "the experiment has ended")
        return done

    def read_back(self, experiment: Experiment, said: str) -> Experiment:
        """Note what traffic said after the end."""
        done = msgspec.structs.replace(experiment, read_back=said)
        self._replace(experiment, done, f"{experiment.id}: read back from traffic", said)
        return done

    def canary_release(self, experiment: Experiment) -> str:
        """The canary's release in traffic now: its line may have incremented since the start."""
        live = read_live(self.ends.releases).get(CANARY, "")
        return live if experiment.is_canary(live) else experiment.release

    def _end(self, experiment: Experiment, state: State, *, why: str) -> Experiment:
        ended = msgspec.structs.replace(
            experiment, state=state, phase_at=self.clock.now(), release=self.canary_release(experiment)
        )
        self._replace(experiment, ended, f"{experiment.id}: {state}", why)
        return ended

    def _replace(self, old: Experiment, new: Experiment, what: str, why: str) -> None:
        """Write the new experiment unless another, or none, has taken the old one's place meanwhile."""

        def update(record: Record) -> Record:
            if record.experiment is None or record.experiment.id != old.id:
                raise NoExperiment(f"experiment {old.id} is no longer in the record")
            if old.state.runs and not record.experiment.state.runs:
                raise NoExperiment(f"experiment {old.id} is {record.experiment.state} by now")
            return msgspec.structs.replace(record, experiment=new)

        self._write(update, what, why)

    def _write(self, update: Any, what: str, why: str) -> Record:
        record = self.experiments.change(update, who=self.who, at=self.clock.now(), what=what, why=why)
        self.ends.report(what)
        return record


def _figures(candidate: Path) -> Mapping[str, float]:
    """What was measured of it; a release that was not evaluated here has its manifest's figures alone."""
    return Evaluation.load(candidate).measured() if (candidate / FIGURES).exists() else {}
