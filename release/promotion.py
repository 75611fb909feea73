"""A promotion from start to end: canary into traffic, a look an hour, one decision, and what it does to traffic.

    acts = Acts(ends=ends, clock=clock, who="ada")
    promotion = Promotion(acts=acts, lake=lake, folder=var / "canaries", audits=var / "audits")
    promotion.start(candidate, verdict, why="fresher features")
    promotion.evaluate()        # once an hour or as often as one likes: an hour is decided once, steps repeat harmlessly

Everything about one canary is in `<folder>/<id>/`: plan.json, decisions.jsonl, index.html, and at its end verdict.json.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from monitoring.audit_record import newest_audit
from monitoring.canary_gate import Action
from monitoring.canary_log import Crash, Entry, closing, decide_or_hold, hold, read_log
from monitoring.canary_plan import HOUR_S, Audit, Looks
from monitoring.off_policy_gate import OffPolicyVerdict
from monitoring.off_policy_lake import OffPolicyRecord
from monitoring.off_policy_page import to_section, write_shadow_page
from registry.errors import RegistryError
from registry.experiment import Experiment, State
from registry.manifest import read_live, read_manifest
from registry.verdict import VERDICT, Outcome, Verdict, write_verdict
from release.canary_view import look_at
from release.errors import Busy, NotAudited, NotUsed, StillInTraffic
from release.promotion_acts import ENDED, Acts
from release.promotion_audit import against
from release.promotion_plan import (
    PromotionConfig,
    complete_hours,
    config_of,
    due_phase,
    overdue_hours,
    patience_hours,
    plan_of,
    started_at,
)
from release.promotion_seen import in_the_way, newest, since_end
from release.promotion_shadow import OFF_POLICY, as_of, final_verdict, read_record, sentence
from release.promotion_shadow import closing as closing_shadow
from release.promotion_start import DECISIONS, keep, made, may_start, planned
from release.traffic import CANARY
from serving.feed import STABLE

PAGE = "index.html"
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
    held: bool = False  # a phase that is over and could not be left

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
            stable, now = read_live(self.acts.ends.releases).get(STABLE, ""), self.acts.clock.now()
            may_start(record, manifest, stable, off_policy)
            config = planned(self.lake, config, now=now, report=self.acts.ends.report)
            experiment = made(manifest, stable, config, now=now)
            keep(self.folder / experiment.id, experiment, off_policy)
            if one is not None and not one.settled:
                self.acts.settle(one)
            self.acts.begin(candidate, verdict, experiment, why=why)
            return experiment

    def due(self) -> str:
        """What an evaluation would do now, as a key that names it once; "" when nothing is due. Reads little.

        What is due and stays undone (held, blocked, broken off) is asked for again every hour, under a key of its own.
        """
        one, now = self.acts.experiments.read().experiment, self.acts.clock.now()
        if one is None or (one.settled and one.read_back):
            return ""
        if not one.state.runs:
            return f"{one.id}:{'read-back' if one.settled else 'settle'}-{_hours(now - one.phase_at)}"
        end = closing(read_log(self.log(one)))
        if end is not None:
            return f"{one.id}:{end.decision.action}-{_hours(now - end.decision.at)}"
        if one.state is not State.CANARY:
            config = config_of(one)
            phase, past = due_phase(one, config, now=now), int(overdue_hours(one, config, now=now))
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
        """Judge what was seen, append decisions, act, draw the page; without `promote` that is left to a later call."""
        with self._alone():
            one = self.acts.experiments.read().experiment
            if one is None:
                return Evaluated(None)
            added: list[Entry] = []
            if looked is not None and looked.experiment.id == one.id and one.state is State.CANARY:
                added = self._judge(looked, self.log(one))
            try:
                done = self._act(one, promote=promote)
            except Exception:
                self._write_down(one)
                raise
            return replace(done, decided=tuple(added), said=(*done.said, *self._write_down(one)))

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
        return newest_audit(self.audits, line, report=self.acts.ends.report)

    def unaudited(self, one: Experiment) -> str:
        """Why a promotion that is decided must not be done now; "" when the audit of its line stands."""
        return against(one, self.last_audit(one.line), now=self.acts.clock.now())

    def promotes(self, one: Experiment) -> bool:
        """Whether a promotion is decided and not yet done."""
        end = closing(read_log(self.log(one)))
        return one.state.runs and end is not None and end.decision.action is Action.PROMOTE

    def _judge(self, looked: Looked, log: Path) -> list[Entry]:
        one, looks = looked.experiment, looked.looks
        plan, audit = plan_of(one), self.last_audit(one.line)
        assert one.started_at is not None
        pin = self.acts.experiments.read().pin
        at, share = one.started_at + looked.hour * HOUR_S, float(pin == CANARY) if pin else one.share_of(plan.canary)
        error = looked.error
        try:
            share = share if CANARY in read_live(self.acts.ends.releases) else 0.0
        except RegistryError as unread:  # whether the canary is in traffic is not known: it counts as if it were
            error = f"{type(unread).__name__}: {unread}"
        if looks is None or error:
            return hold(log, plan, Crash(looked.hour, at, error, share), audit=audit)
        return decide_or_hold(log, plan, lambda: looks, hour=looked.hour, at=at, share=share, audit=audit)

    def _act(self, one: Experiment, *, promote: bool) -> Evaluated:
        """Whatever the state and the log ask for; a step that broke off earlier is taken up again."""
        end = closing(read_log(self.log(one)))
        if one.state.runs and end is not None:
            if self.promotes(one):
                if not promote:
                    return Evaluated(one, said=(end.decision.text,))
                found = self.unaudited(one)
                if found:
                    raise NotAudited(f"{one.id} is not promoted: {found}; a new audit lets it, and stop ends it")
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
        why = in_the_way(self.lake, one, config)
        if why:
            return self._hold_phase(one, config, why)
        checked = self._leave_shadow(one, config) if one.state is State.SHADOW else Evaluated(one)
        if checked.held or checked.experiment is None or not checked.experiment.state.runs:
            return checked
        why = "; ".join(("the phase before it is over", *checked.said))
        begins = started_at(state, config, now=now)
        one = self.acts.go_on(one, state, exposure=config.exposure(state), started_at=begins, why=why)
        return replace(checked, experiment=one, said=(*checked.said, f"{one.id} goes on as {state}"))

    def _hold_phase(self, one: Experiment, config: PromotionConfig, why: str) -> Evaluated:
        """Stay in a phase that is over and cannot be left, for as long as patience has it; then the canary ends."""
        if overdue_hours(one, config, now=self.acts.clock.now()) < patience_hours(one, config):
            return Evaluated(one, said=(f"{why}; held in {one.state}",), held=True)
        return Evaluated(self.acts.give_up(one, State.STOPPED, why=why), said=(f"{why}; ended",))

    def _leave_shadow(self, one: Experiment, config: PromotionConfig) -> Evaluated:
        """What the log says at the end of the shadow: a fail ends the canary, what cannot be read holds it for a while."""
        try:
            record = closing_shadow(self.folder / one.id, self.lake, one, config, now=self.acts.clock.now())
        except Exception as error:  # noqa: BLE001  whatever it was, nobody is shown what could not be checked
            why = f"off-policy: the log of {one.id} could not be judged: {type(error).__name__}: {error}"
            return self._hold_phase(one, config, why)
        if record.verdict.outcome is not Outcome.FAIL:
            return Evaluated(one, said=(sentence(record),), off_policy=record)
        ended = self.acts.give_up(one, State.ROLLED_BACK, why=sentence(record))
        return Evaluated(ended, said=(sentence(record),), off_policy=record)

    def _read_back(self, one: Experiment) -> Evaluated:
        """See in the newest traffic that the end has come; StillInTraffic or NotUsed, after trying again, when it has not."""
        if one.read_back:
            return Evaluated(one)
        seen = since_end(self.lake, one, config_of(one))
        if seen is None:
            return Evaluated(one, said=("not read back yet: there is no traffic since the end",))
        if seen.in_arm or (seen.ours and one.state is not State.PROMOTED):
            self.acts.settle(one)  # what is read back from then on may come out otherwise
            raise StillInTraffic(f"{one.id} is {one.state} and still in traffic: {seen}")
        if one.state is State.PROMOTED and not seen.ours:
            stable = read_live(self.acts.ends.releases).get(STABLE, "nothing")
            self.acts.settle(one)
            raise NotUsed(f"{one.id} is promoted and {one.release} answers nobody, while {stable} is stable: {seen}")
        return Evaluated(self.acts.read_back(one, str(seen)), said=(str(seen),))

    def _undecided(self, one: Experiment, hour: int) -> bool:
        """Whether any hour so far is not decided; a held one is not."""
        decided = {e.judged.hour for e in read_log(self.log(one)) if e.decision.action is not Action.HOLD}
        return not set(range(1, hour + 1)) <= decided

    def _complete(self, one: Experiment) -> int:
        """Hours that may be looked at; where nothing can be read only patience makes one complete, and its look says why."""
        return complete_hours(one, config_of(one), now=self.acts.clock.now(), newest=newest(self.lake))

    def _write_down(self, one: Experiment) -> tuple[str, ...]:
        """Verdict and page as log and record have them by now; what goes wrong is said, and tried again the next time."""
        try:
            now = self.acts.experiments.read().experiment
            if now is not None and now.id == one.id:
                self._keep_verdict(now)
            if self._is_behind(one):
                self._draw(one)
        except Exception as error:  # noqa: BLE001  whatever it was, it must not stand in the way of what moves traffic
            said = f"the page or verdict of {one.id} could not be written: {type(error).__name__}: {error}"
            self.acts.ends.report(said)
            return (said,)
        return ()

    def _keep_verdict(self, one: Experiment) -> None:
        """Write down what ended the canary, once."""
        folder = self.folder / one.id
        if one.state.runs or (folder / VERDICT).exists():
            return
        end, record = closing(read_log(self.log(one))), read_record(folder)
        if end is not None and ENDED[end.decision.action] is one.state:
            write_verdict(folder, end.decision.verdict)
        elif record is not None and record.verdict.outcome is Outcome.FAIL and one.state is State.ROLLED_BACK:
            write_verdict(folder, final_verdict(record))

    def _is_behind(self, one: Experiment) -> bool:
        """Whether something was decided since the page was drawn."""
        sources = [path for path in (self.log(one), self.folder / one.id / OFF_POLICY) if path.exists()]
        page = self.page(one)
        drawn = page.stat().st_mtime_ns if page.exists() else -1
        return any(path.stat().st_mtime_ns > drawn for path in sources)

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


def _hours(seconds: float) -> int:
    return max(0, int(seconds // HOUR_S))
