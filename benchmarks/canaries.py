"""`livefeed bench canaries --json`: five canaries on the real parts, each with a known truth, decided by Dagster.

One platform of its own and one world: it explores, learns a release, and then meets a canary a day. What is true of each
follows from how it is made (benchmarks/canary_variants.py), and is measured: the simulator's expected clicks of every page
that the proxy answered, by arm. Dials were fixed before the first run, from the power formula: 1,500 viewers of whom 1,000
come in 24 hours, half of them in the canary, with a squared coefficient of variation of 0.4 to 0.6 of a viewer's CTR: a
standard error of 4 to 5 % of the lift, up to 9 % where the lift is large; a detectable lift (mde) of 30 % needs 10.7 %. The
better canary begins with six hours in shadow, at whose end the log is asked first.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from benchmarks.canary_ground import AuditDials, Ground, Say, Stretch
from benchmarks.canary_judged import Audits, Shadowed, audited, shadowed
from benchmarks.canary_variants import blind, narrow, twin
from benchmarks.own_parts import own_parts
from benchmarks.result import Result, bar
from monitoring.canary_gate import Action
from monitoring.canary_plan import CanaryConfig
from registry.experiment import HISTORY, Experiment
from registry.mlflow_store import CHALLENGER, CHAMPION
from registry.verdict import Reason
from release.promotion_parts import AUDITS, CANARIES
from release.promotion_plan import PromotionConfig
from release.traffic import CANARY
from serving.feed import STABLE
from settings import Settings
from simulator.config import WorldConfig
from simulator.dials import Pulls
from stack.demo.canary import Ended, backwards
from stack.demo.run import PARTS

LANGUAGE = "es"  # of a fifth of viewers, hosts and creators
BLIND = "blind"  # the line of the release that is stable while better ones are tried
KEPT = "drills"  # folder in var for what the drills wrote


@dataclass(frozen=True, kw_only=True)
class CanariesConfig:
    """How large the drill is; hours are of event time."""

    viewers: int = 1_500
    explore_hours: float = 42.0
    hours: int = 24
    short_hours: int = 6  # of the canary that is too short
    shadow_hours: int = 6  # before the better canary: the fewest in which more viewers came than its log must have
    min_viewers: int = 150
    mde: float = 0.3
    margin: float = 0.1  # with 500 viewers an arm the default of 5 % would stop every second harmless canary
    audit: AuditDials = field(default_factory=AuditDials)


@dataclass(frozen=True)
class Hope:
    """What must come of a canary: that action, that reason among others or, where `alone`, no other."""

    action: Action
    reason: Reason
    alone: bool = False

    def met_by(self, action: Action | None, reasons: Sequence[str]) -> bool:
        """Whether it came so."""
        return action is self.action and self.reason in reasons and (not self.alone or len(reasons) == 1)


@dataclass(frozen=True)
class Drill:
    """One canary: what is tried against what is stable, its dials, and what must come of it."""

    name: str
    make: Callable[[Ground], Path]
    config: PromotionConfig
    hope: Hope
    audited: bool = False
    blind_stable: bool = False


@dataclass(frozen=True)
class Done:
    """One canary at its end."""

    drill: Drill
    candidate: str
    ended: Ended
    stretch: Stretch
    during: Ended  # what the parts said while it ran
    audits: Audits | None = None
    shadow: Shadowed | None = None

    @property
    def hoped(self) -> bool:
        """Whether it came out as it must."""
        return self.drill.hope.met_by(self.ended.action, self.ended.reasons)


def measure(settings: Settings, seed: int, say: Say, *, config: CanariesConfig | None = None) -> Result:
    """Start parts of its own, learn, play the five canaries, and hold what came of them against what must."""
    config = config or CanariesConfig()
    settings = settings.model_copy(update={
        "clock": "request", "commit_every_s": 2.0, "request_budget_ms": 2_000.0, "partitions_start": date(2026, 11, 1),
        "partitions_end": date(2026, 12, 1),
    })  # fmt: skip
    with own_parts(settings, PARTS, say=say) as (_, own):
        ground = Ground(own, world_of(seed, config), say=say)
        ground.learn(config.explore_hours)
        try:
            done = [play(ground, drill, config) for drill in drills(config)]
        finally:
            say(f"pages, decisions and audits: {keep(own, settings.var / KEPT)}")
        return result(done, ground, seed)


def world_of(seed: int, config: CanariesConfig) -> WorldConfig:
    """A world in which language is a name alone: suppressing one gains nothing, and a fair ranker's shares follow merit."""
    return WorldConfig(
        seed=seed, viewers=config.viewers, creators=300, items=1_200, hosts=80, paired=True,
        pulls=Pulls(other_language=0.0, live=0.3),
    )  # fmt: skip


def drills(config: CanariesConfig) -> tuple[Drill, ...]:
    """The five, in order: two against the trained release, three against a blind one."""
    whole, short = (dials(config, hours=hours) for hours in (config.hours, config.short_hours))
    short = replace(short, gate=replace(short.gate, mde=0.05))
    behind = replace(whole, shadow_hours=float(config.shadow_hours))

    def same(ground: Ground) -> Path:
        return twin(ground.release, line="twin", into=ground.made)

    def wrong(ground: Ground) -> Path:
        return backwards(ground.release, line="backwards", into=ground.made)

    def unfair(ground: Ground) -> Path:
        return narrow(ground.release, line="narrow", version=ground.next_version(), language=LANGUAGE, into=ground.made)

    blocked = Hope(Action.END, Reason.AUDIT_FAILED, alone=True)
    return (
        Drill("worse", wrong, whole, Hope(Action.ROLLBACK, Reason.HARMED)),
        Drill("identical", same, whole, Hope(Action.END, Reason.NOT_BETTER)),
        Drill("underpowered", same, short, Hope(Action.END, Reason.UNDERPOWERED), blind_stable=True),
        Drill("unfair", unfair, whole, blocked, audited=True, blind_stable=True),
        Drill("better", same, behind, Hope(Action.PROMOTE, Reason.BEATS_BASELINE), audited=True, blind_stable=True),
    )


def dials(config: CanariesConfig, *, hours: int) -> PromotionConfig:
    """Half of the viewers at once, one decision at the end of the hours."""
    gate = CanaryConfig(
        hours=hours, day_hours=hours, max_hours=hours, mde=config.mde, margin=config.margin,
        min_viewers=config.min_viewers, segment_min_viewers=60,
    )  # fmt: skip
    return PromotionConfig(share=0.5, baseline=0.0, ramp_share=0.5, ramp_hours=0.0, gate=gate)


def play(ground: Ground, drill: Drill, config: CanariesConfig) -> Done:
    """One canary from its start to its end, read back from the traffic that follows."""
    ground.say(f"── {drill.name}")
    if drill.blind_stable:
        ground.make_stable(lambda n: blind(ground.release, line=BLIND, version=n, into=ground.made), line=BLIND)
    candidate = drill.make(ground)
    one = ground.drive.start(candidate, config=drill.config, why=f"drill: {drill.name}")
    hours = drill.config.shadow_hours
    shadow = shadowed(ground, one, hours=hours) if hours else None
    during = ground.drive.ended(one)
    stretch = ground.stretch(drill.config.gate.hours + 0.5)
    audits = judge_fairness(ground, one, config.audit) if drill.audited else None
    ground.say(ground.drive.evaluate(one).line)
    ground.stretch(0.5)
    done = Done(drill, candidate.name, ground.drive.evaluate(one), stretch, during, audits, shadow)
    ground.say(f"   {drill.name}: {'as it must' if done.hoped else 'NOT as it must'}; {stretch.said()}")
    ground.say(f"   read back: {done.ended.experiment.read_back or 'not yet'}")
    return done


def judge_fairness(ground: Ground, one: Experiment, dials: AuditDials) -> Audits:
    """The canary's line audited by Dagster, and what default dials would have made of the same rows."""
    ground.audit(one.line, dials, against=one.control_line)
    audits = audited(ground.settings, one.line, dials, against=one.control_line)
    for name, record in {"as it was": audits.recorded, **audits.again}.items():
        ground.say(f"   audit, {name}: {f'{record.outcome}: {record.sentence}' if record else 'none'}")
    return audits


def keep(own: Settings, target: Path) -> Path:
    """Copy what the platform wrote about its canaries to a folder that stays."""
    shutil.rmtree(target, ignore_errors=True)
    for name in (CANARIES, AUDITS):
        if (own.var / name).is_dir():
            shutil.copytree(own.var / name, target / name)
    shutil.copy2(own.releases / HISTORY, target / HISTORY)
    return target


def result(done: Sequence[Done], ground: Ground, seed: int) -> Result:
    """The drills in figures."""
    figures: dict[str, float | None] = {}
    for one in done:
        figures |= {f"{one.drill.name}_{name}": value for name, value in figures_of(one, ground).items()}
    names = [one.drill.name for one in done]
    checks = ("as_hoped", "labels_agree", "aliases_agree", "traffic_agrees", "replayed", "page")
    bars = [bar(figures, f"{name}_{what}", ">=", 1.0) for name in names for what in checks]
    for one in done:
        if one.shadow is not None:
            bars.append(bar(figures, f"{one.drill.name}_shadow_outcome", "<", 2.0))  # anything but a fail
            bars.append(bar(figures, f"{one.drill.name}_shadow_places", ">", 0.0))
    return Result(bench="canaries", figures=figures, baseline={}, bars=tuple(bars), seed=seed)


def figures_of(one: Done, ground: Ground) -> dict[str, float | None]:
    """What was true, what was seen, what was decided, and what the parts say of it; 1 is yes."""
    ended, entries = one.ended, one.ended.entries
    last = ended.last.decision if ended.last else None
    shown = last.verdict.evidence if last else ()
    seen = next((e for e in shown if e.metric == "ctr" and e.check in ("gain_unadjusted", "harm")), None)
    look = entries[-1].judged.look if entries else None
    more = (one.audits.figures() if one.audits else {}) | (one.shadow.figures() if one.shadow else {})
    return more | {
        "as_hoped": float(one.hoped),
        "true_lift": one.stretch.lift,
        "seen_lift": seen.estimate if seen else None,
        "seen_se": seen.se if seen else None,
        "hour": float(last.hour) if last else None,
        "looks": float(len(entries)),
        "viewers": float(sum(arm.viewers for arm in look.arms.values())) if look else None,
        "canary_share_answers": one.stretch.share("canary"),
        "canary_share_stored": stored_share(one, ground),
        "labels_agree": float(labels_agree(one)),
        "aliases_agree": float(aliases_agree(one)),
        "traffic_agrees": float(bool(ended.experiment.read_back)),
        "replayed": float(bool(entries) and ended.replayed),
        "page": float(ended.page.is_file()),
    }


def stored_share(one: Done, ground: Ground) -> float | None:
    """The share of stored impressions that the canary's arm had, all by the canary's release; None when there is another."""
    experiment = one.ended.experiment
    seen = ground.drive.traffic(experiment.started_at or experiment.created_at, hours=one.drill.config.gate.hours)
    by_arm = {arm: {name: n for (of, name), n in seen.items() if of == arm} for arm, _ in seen}
    if set(by_arm.get("canary", {})) != {one.candidate}:
        return None
    return sum(by_arm["canary"].values()) / sum(seen.values())


def labels_agree(one: Done) -> bool:
    """While it ran each label answered with its release's version; at the end stable alone does, with its own."""
    experiment = one.ended.experiment
    promoted = one.ended.action is Action.PROMOTE
    stable = experiment.release if promoted else experiment.control_release
    wanted = {STABLE: version_of(experiment.control_release), CANARY: version_of(one.candidate)}
    running = all(set(one.during.labels[label].values()) == {version} for label, version in wanted.items())
    after = set(one.ended.labels[STABLE].values()) == {version_of(stable)}
    gone = all(isinstance(said, str) for said in one.ended.labels[CANARY].values())
    return running and after and gone and dict(one.ended.live) == {STABLE: stable}


def aliases_agree(one: Done) -> bool:
    """While it ran it was its line's challenger; at the end nobody is, and what was promoted is its line's champion."""
    challenged = CHALLENGER in one.during.aliases.get(one.candidate, ())
    left = any(CHALLENGER in names for names in one.ended.aliases.values())
    champion = CHAMPION in one.ended.aliases.get(one.candidate, ())
    return challenged and not left and champion == (one.ended.action is Action.PROMOTE)


def version_of(release: str) -> int:
    """The version that a release's name ends with."""
    return int(release.rpartition("-")[2])
