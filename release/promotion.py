"""A promotion from start to end: canary into traffic, a look an hour, one decision, and what it does to traffic.

    acts = Acts(ends=ends, clock=clock, who="ada")
    promotion = Promotion(acts=acts, lake=lake, folder=var / "canaries", audits=var / "audits")
    promotion.start(candidate, verdict, why="fresher features")
    promotion.evaluate()        # once an hour or as often as one likes: an hour is decided once, steps repeat harmlessly

Everything about one canary is in `<folder>/<id>/`: plan.json, decisions.jsonl, index.html, and at its end verdict.json.
"""

import fcntl
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from events.clock import utc
from features.errors import FeaturesError
from monitoring.audit_record import AuditRecord
from monitoring.canary_gate import Action
from monitoring.canary_log import Crash, Entry, closing, decide_or_hold, hold, read_log
from monitoring.canary_plan import Audit, Looks
from monitoring.errors import MonitoringError
from monitoring.off_policy_gate import OffPolicyVerdict
from monitoring.off_policy_lake import OffPolicyRecord
from monitoring.off_policy_page import to_section, write_shadow_page
from registry.experiment import Experiment, Record, State
from registry.manifest import Manifest, read_live, read_manifest
from registry.verdict import Outcome, Verdict, write_verdict
from release.canary_rows import newest_impression, traffic_since
from release.canary_view import look_at, planned_variances
from release.errors import Busy, CannotStart, NotUsed, StillInTraffic
from release.promotion_acts import Acts
from release.promotion_plan import (
    PromotionConfig,
    as_record,
    complete_hours,
    config_of,
    due_phase,
    overdue_hours,
    plan_of,
    started_at,
)
from release.promotion_shadow import as_of, final_verdict, read_record, sentence
from release.promotion_shadow import closing as closing_shadow
from release.traffic import CANARY
from serving.feed import STABLE

PLAN, DECISIONS, PAGE, GIVEN = "plan.json", "decisions.jsonl", "index.html", "off_policy_given.json"
DEFAULT = PromotionConfig()


@dataclass(frozen=True)
class Looked:
    """What the tables say at the newest complete hour: looks, or why there are none."""

    experiment: Experiment
    hour: int
    looks: Looks | None
    error: str = ""


@dataclass(frozen=True)
class Evaluated:
    """One evaluation: where the experiment stands now, the decisions made, and what was done in words."""

    experiment: Experiment | None
    decided: tuple[Entry, ...] = ()
    said: tuple[str, ...] = ()
    off_policy: OffPolicyRecord | None = None  # where a shadow phase has ended now
    held: bool = False  # a shadow phase that could not be judged

    @property
    def action(self) -> Action | None:
        """The last decision made now; None when nothing was due."""
        if self.decided:
            return self.decided[-1].decision.action
        return Action.HOLD if self.held else None


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """Promotions of one platform; one process evaluates at a time."""

    acts: Acts
    lake: Path
    folder: Path  # of all canaries
    audits: Path  # where `livefeed monitoring audit --out` writes

    def start(
        self, candidate: Path, verdict: Verdict, *, why: str, config: PromotionConfig = DEFAULT,
        off_policy: OffPolicyVerdict | None = None,
    ) -> Experiment:  # fmt: skip
        """Bring a candidate (or a published release's folder) into traffic as canary; again is harmless.

        CannotStart says what stands against it; NotPassed and the deployment's errors as in release.deploy.
        """
        with self._alone():
            record, manifest = self.acts.experiments.read(), read_manifest(candidate)
            one = record.experiment
            if one is not None and one.state.runs and one.release == manifest.name:
                return one
            control = self._may_start(record, manifest, off_policy)
            config = self._planned(config)
            experiment = self._made(manifest, control, config)
            self._keep(experiment, off_policy)
            if one is not None and not one.settled:
                self.acts.settle(one)
            self.acts.begin(candidate, verdict, experiment, why=why)
            return experiment

    def due(self) -> str:
        """What an evaluation would do now, as a key that names it once; "" when nothing is due. Reads little."""
        one = self.acts.experiments.read().experiment
        if one is None or (one.settled and not one.state.runs):
            return ""
        if not one.state.runs:
            return f"{one.id}:settle"
        if one.state is not State.CANARY:
            config, now = config_of(one), self.acts.clock.now()
            phase, past = due_phase(one, config, now=now), int(overdue_hours(one, config, now=now) or 0)
            # A phase that is held is asked for again every hour.
            return f"{one.id}:{phase}{f'-{past}' if past else ''}" if phase is not None else ""
        hour = self._complete(one)
        return f"{one.id}:hour-{hour}" if self._undecided(one, hour) else ""

    def evaluate(self) -> Evaluated:
        """Go on to the next phase, look, decide, act, and read back: whatever is due. Raises when a step fails."""
        return self.decide(self.look())

    def look(self) -> Looked | None:
        """Read the tables if an hour is complete that is not decided; what goes wrong is part of the answer."""
        one = self.acts.experiments.read().experiment
        if one is None or one.state is not State.CANARY:
            return None
        hour = self._complete(one)
        if not self._undecided(one, hour):
            return None
        config = config_of(one)
        try:
            looks = look_at(
                self.lake, plan_of(one), hours=hour, exposed_at=one.created_at, before_days=config.before_days
            )
        except Exception as error:  # noqa: BLE001  whatever it was, the canary is held and the log says why
            return Looked(one, hour, None, f"{type(error).__name__}: {error}")
        return Looked(one, hour, looks)

    def decide(self, looked: Looked | None, *, promote: bool = True) -> Evaluated:
        """Judge what was seen, append decisions, draw the page, act; without `promote` that is left to a later call."""
        with self._alone():
            one = self.acts.experiments.read().experiment
            if one is None:
                return Evaluated(None)
            added: list[Entry] = []
            if looked is not None and looked.experiment.id == one.id and one.state is State.CANARY:
                added = self._judge(looked, self.log(one))
            if added or not self.page(one).exists():
                self._draw(one)
            return replace(self._act(one, promote=promote), decided=tuple(added))

    def rehearse(self) -> Evaluated:
        """What `evaluate` would decide now; nothing is written and nothing moves."""
        looked = self.look()
        one = self.acts.experiments.read().experiment
        if looked is None:
            record = self.off_policy(one) if one is not None and one.state is State.SHADOW else None
            return Evaluated(one, said=() if record is None else (sentence(record),), off_policy=record)
        import tempfile

        with tempfile.TemporaryDirectory() as scratch:
            log, real = Path(scratch) / DECISIONS, self.log(looked.experiment)
            if real.exists():
                log.write_bytes(real.read_bytes())
            return Evaluated(one, tuple(self._judge(looked, log)))

    def log(self, experiment: Experiment) -> Path:
        """The canary's decisions."""
        return self.folder / experiment.id / DECISIONS

    def page(self, experiment: Experiment) -> Path:
        """The canary's page, once something was decided."""
        return self.folder / experiment.id / PAGE

    def off_policy(self, experiment: Experiment) -> OffPolicyRecord | None:
        """What the log says of its shadow phase: as the phase ended, else as of now; None when it is past without one."""
        record = read_record(self.folder / experiment.id)
        if record is None and experiment.state is State.SHADOW:
            return as_of(self.lake, experiment, config_of(experiment), now=self.acts.clock.now())
        return record

    def last_audit(self, line: str) -> Audit | None:
        """The line's newest audit; None where there is none that can be read."""
        found = []
        for path in sorted(self.audits.glob(f"audit-{line}-????-??.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=AuditRecord).audit)
            except (OSError, msgspec.MsgspecError, MonitoringError) as error:
                self.acts.ends.report(f"audit record {path} cannot be read and does not count: {error}")
        return max((one for one in found if one.line == line), key=lambda one: one.at, default=None)

    def _judge(self, looked: Looked, log: Path) -> list[Entry]:
        plan, audit = plan_of(looked.experiment), self.last_audit(looked.experiment.line)
        assert looked.experiment.started_at is not None
        at = looked.experiment.started_at + looked.hour * 3_600.0
        share = looked.experiment.share_of(plan.canary) if CANARY in read_live(self.acts.ends.releases) else 0.0
        looks = looked.looks
        if looks is None:
            return hold(log, plan, Crash(looked.hour, at, looked.error, share), audit=audit)
        return decide_or_hold(log, plan, lambda: looks, hour=looked.hour, at=at, share=share, audit=audit)

    def _act(self, one: Experiment, *, promote: bool) -> Evaluated:
        """Whatever the state and the log ask for; a step that broke off earlier is taken up again."""
        end = closing(read_log(self.log(one)))
        if one.state.runs and end is not None:
            if end.decision.action is Action.PROMOTE and not promote:
                return Evaluated(one, said=(end.decision.text,))
            write_verdict(self.folder / one.id, end.decision.verdict)
            return Evaluated(self.acts.conclude(one, end.decision), said=(end.decision.text,))
        if not one.state.runs:
            one = one if one.settled else self.acts.settle(one)
            return self._read_back(one)
        return self._go_on(one)

    def _go_on(self, one: Experiment) -> Evaluated:
        config, now = config_of(one), self.acts.clock.now()
        state = due_phase(one, config, now=now)
        if state is None:
            return Evaluated(one)
        held = self._not_answering(one, config)
        if held:
            return Evaluated(one, said=(held,))
        checked = self._leave_shadow(one, config) if one.state is State.SHADOW else Evaluated(one)
        if checked.held or checked.experiment is None or not checked.experiment.state.runs:
            return checked
        why = "; ".join(("the phase before it is over", *checked.said))
        begins = started_at(state, config, now=now)
        one = self.acts.go_on(one, state, exposure=config.exposure(state), started_at=begins, why=why)
        return replace(checked, experiment=one, said=(*checked.said, f"{one.id} goes on as {state}"))

    def _leave_shadow(self, one: Experiment, config: PromotionConfig) -> Evaluated:
        """What the log says at the end of the shadow: a fail ends the canary, what cannot be read holds it for a while."""
        now, folder = self.acts.clock.now(), self.folder / one.id
        try:
            record = closing_shadow(folder, self.lake, one, config, now=now)
        except Exception as error:  # noqa: BLE001  whatever it was, nobody is shown what could not be checked
            why = f"off-policy: the log of {one.id} could not be judged: {type(error).__name__}: {error}"
            if (overdue_hours(one, config, now=now) or 0.0) < config.shadow_patience_hours:
                return Evaluated(one, said=(f"{why}; held in shadow",), held=True)
            return Evaluated(self.acts.give_up(one, State.STOPPED, why=why), said=(f"{why}; ended",))
        self._draw(one)
        if record.verdict.outcome is not Outcome.FAIL:
            return Evaluated(one, said=(sentence(record),), off_policy=record)
        write_verdict(folder, final_verdict(record))
        ended = self.acts.give_up(one, State.ROLLED_BACK, why=sentence(record))
        return Evaluated(ended, said=(sentence(record),), off_policy=record)

    def _not_answering(self, one: Experiment, config: PromotionConfig) -> str:
        """Why the ramp must not be left: viewers of the canary are answered by somebody else; "" when they are not."""
        seen = traffic_since(self.lake, one.phase_at) if one.state is State.RAMP else {}
        every = sum(n for (arm, _), n in seen.items() if arm == one.canary)
        ours = sum(n for (arm, name), n in seen.items() if arm == one.canary and _is_canary(one, name))
        if not every or ours / every >= config.answered_share:
            return ""
        return f"the ramp of {one.id} is held: its release answered {ours} of its {every} impressions"

    def _read_back(self, one: Experiment) -> Evaluated:
        """See in the newest traffic that the end has come; StillInTraffic (after trying again) or NotUsed when it has not."""
        if one.read_back:
            return Evaluated(one)
        seen = traffic_since(self.lake, one.phase_at + config_of(one).settle_s)
        if not seen:
            return Evaluated(one, said=("not read back yet: there is no traffic since the end",))
        every = sum(seen.values())
        canary = sum(n for (arm, _), n in seen.items() if arm == one.canary)
        ours = sum(n for (_, name), n in seen.items() if _is_canary(one, name))
        said = f"of {every} impressions since, {canary} in the canary's arm and {ours} answered by its release"
        if canary or (ours and one.state is not State.PROMOTED):
            self.acts.settle(one)
            raise StillInTraffic(f"{one.id} is {one.state} and still in traffic: {said}")
        stable = read_live(self.acts.ends.releases).get(STABLE, "")
        if one.state is State.PROMOTED and not ours and _is_canary(one, stable):
            raise NotUsed(f"{one.id} is promoted and {stable} answers nobody: {said}")
        return Evaluated(self.acts.read_back(one, said), said=(said,))

    def _undecided(self, one: Experiment, hour: int) -> bool:
        """Whether any hour so far is not decided; a held one is not."""
        decided = {e.judged.hour for e in read_log(self.log(one)) if e.decision.action is not Action.HOLD}
        return not set(range(1, hour + 1)) <= decided

    def _complete(self, one: Experiment) -> int:
        try:
            newest = newest_impression(self.lake)
        except FeaturesError:
            newest = None  # then only patience makes an hour complete, and the look says what is wrong
        return complete_hours(one, config_of(one), now=self.acts.clock.now(), newest=newest)

    def _may_start(self, record: Record, manifest: Manifest, off_policy: OffPolicyVerdict | None) -> str:
        """The release that is stable now; CannotStart for everything that stands against a start."""
        one = record.experiment
        if record.killed:
            raise CannotStart("experiments are switched off; livefeed promotion resume switches them on")
        if record.pin:
            raise CannotStart(f"everybody is pinned to {record.pin}; livefeed promotion pin --off takes it back")
        if one is not None and one.state.runs:
            raise CannotStart(f"{one.id} is {one.state}; one canary runs at a time")
        if off_policy is not None and off_policy.stops:
            raise CannotStart(f"the log speaks against {manifest.name}: {'; '.join(off_policy.texts)}")
        control = read_live(self.acts.ends.releases).get(STABLE, "")
        if control in ("", manifest.name):
            raise CannotStart(f"{manifest.name} has nothing to be compared with: stable is {control or 'nothing yet'}")
        return control

    def _planned(self, config: PromotionConfig) -> PromotionConfig:
        """The dials with planned variances; CannotStart when neither dials nor tables have them."""
        if config.planned:
            return config
        try:
            found = planned_variances(
                self.lake, until=self.acts.clock.now(), hours=config.gate.hours, canary_share=config.share,
                control_share=1.0 - config.share - config.baseline,
            )  # fmt: skip
        except (FeaturesError, MonitoringError) as error:
            raise CannotStart(f"no variance can be planned: {error}") from None
        least = config.gate.reach * math.sqrt(found["ctr"])
        self.acts.ends.report(f"after {config.gate.hours} h a lift of {least:.1%} is detectable, as viewers are now")
        return msgspec.convert(as_record(config) | {"planned": found}, PromotionConfig)

    def _made(self, manifest: Manifest, control: str, config: PromotionConfig) -> Experiment:
        now, state = self.acts.clock.now(), config.first_state()
        name = f"{manifest.name}-{utc(now):%Y%m%dT%H%M%S}"
        made = Experiment(
            id=name, salt=name, line=manifest.line, release=manifest.name, control_line=_line(control),
            control_release=control, state=state, arms=config.arms(), baseline="baseline" if config.baseline else "",
            exposure=config.exposure(state), shadow_share=config.shadow_share, created_at=now, phase_at=now,
            started_at=started_at(state, config, now=now), config=as_record(config),
        )  # fmt: skip
        try:
            plan_of(msgspec.structs.replace(made, started_at=now))
        except (MonitoringError, KeyError) as error:
            raise CannotStart(f"the canary could not be judged as planned: {error}") from None
        return made

    def _keep(self, one: Experiment, off_policy: OffPolicyVerdict | None) -> None:
        folder = self.folder / one.id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / PLAN).write_bytes(msgspec.json.format(msgspec.json.encode(one)))
        if off_policy is not None:
            (folder / GIVEN).write_bytes(msgspec.json.format(msgspec.json.encode(off_policy)))

    def _draw(self, one: Experiment) -> None:
        entries, record = read_log(self.log(one)), read_record(self.folder / one.id)
        if entries:
            from monitoring.canary_page import write_page  # matplotlib, which nothing else here needs

            write_page(entries, self.page(one), before=to_section(record) if record is not None else "")
        elif record is not None:
            write_shadow_page(record, self.page(one))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another promotion step holds {self.folder / '.lock'}; wait for it to end") from None
            yield


def _line(release: str) -> str:
    return release.rpartition("-")[0]


def _is_canary(one: Experiment, release: str) -> bool:
    """Whether a release is the canary's, or an increment of it where it has a line of its own."""
    return release == one.release or (_line(release) == one.line != one.control_line)
