"""A canary on a small platform: folders, the real model server's table, tables of viewers who click as they are told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from events.clock import SetClock, utc
from monitoring.audit_record import AuditConfig, AuditRecord, write_record
from monitoring.canary_plan import CanaryConfig
from registry.experiment import Experiment, Record
from registry.manifest import Manifest, read_live
from registry.verdict import Outcome
from release.promotion import Evaluated, Promotion
from release.promotion_acts import Acts, Ends
from release.promotion_plan import PromotionConfig
from serving.assignment import assign
from tests.release.evenings import START, Evening, clicked, completed, shown, started
from tests.release.place import PASS, Champions, FollowingProxy, Place

HOUR = 3_600.0
VIEWERS = [f"u{n}" for n in range(120)]
GATE = CanaryConfig(
    hours=2, day_hours=1, max_hours=4, mde=0.3, margin=0.3, use_cuped=False, check_fading=False, min_viewers=20,
    min_events=20,
)  # fmt: skip
CONFIG = PromotionConfig(
    share=0.5, baseline=0.0, ramp_share=0.5, ramp_hours=0.0, settle_s=0.0, segments=(), gate=GATE,
    planned={"ctr": 0.01, "completion_rate": 0.01, "session_depth": 0.01},
)  # fmt: skip


@dataclass
class Challenged(Champions):
    """A registry that also remembers who challenges."""

    challenger: dict[str, int] = field(default_factory=dict)
    registered: set[str] = field(default_factory=set)

    def register(self, candidate: Path, manifest: Manifest, figures: Mapping[str, float]) -> str:
        """Remember."""
        self.registered.add(manifest.name)
        return f"run of {manifest.name}"

    def challenge(self, line: str, version: int | None) -> None:
        """Remember or forget."""
        assert version is None or f"{line}-{version}" in self.registered
        if version is None:
            self.challenger.pop(line, None)
        else:
            self.challenger[line] = version


class Canary:
    """demo-1 is stable, demo-2 is to be tried; the clock stands at START."""

    def __init__(self, folder: Path) -> None:
        self.place = Place(folder)
        self.place.proxies = [FollowingProxy(self.place.releases)]
        self.place.deploy(self.place.candidate(1))
        self.candidate = self.place.candidate(2)
        self.registry = Challenged()
        self.place.registry = self.registry
        self.clock, self.evening = SetClock(START), Evening(folder / "lake")
        self.audits = folder / "audits"
        ends = Ends(registry=self.registry, **self.place.ends())
        acts = Acts(ends=ends, clock=self.clock, who="ada")
        self.promotion = Promotion(acts=acts, lake=self.evening.lake, folder=folder / "canaries", audits=self.audits)

    def start(self, config: PromotionConfig = CONFIG, **more: Any) -> Experiment:
        """Start demo-2."""
        return self.promotion.start(self.candidate, PASS, why="a try", config=config, **more)

    def audited(self, outcome: Outcome = Outcome.PASS, *, at: float = START - HOUR, line: str = "demo") -> None:
        """Give the line an audit."""
        record = AuditRecord(
            line=line, month="2026-10", at=at, source="traffic", outcome=outcome, reasons=(), sentence="",
            config=AuditConfig(),
        )  # fmt: skip
        write_record(record, self.audits)

    def hour(self, number: int, *, canary: int, stable: int, per: int = 10) -> None:
        """One hour of everybody: per viewer `per` impressions, of which about so many are clicked, by arm.

        Half of an arm clicks once less and half once more; everybody starts eight to ten items and completes five to seven.
        """
        events: list[Any] = []
        begin = (number - 1) * HOUR
        for n, viewer in enumerate(VIEWERS):
            arm, at, request = self.arm_of(viewer), begin + 10 * n, f"h{number}-{viewer}"
            clicks = (canary if arm == "canary" else stable) + (1 if n % 4 < 2 else -1)
            release = self.traffic()["canary" if arm == "canary" else "stable"]
            for i in range(per):
                events.append(shown(viewer, request, f"h{number}i{i}", at, arm=arm, position=i, release=release))
            events += [clicked(viewer, request, f"h{number}i{i}", at + 1) for i in range(clicks)]
            events += [started(viewer, f"h{number}i{i}", at + 2) for i in range(8 + n % 3)]
            events += [completed(viewer, f"h{number}i{i}", at + 5) for i in range(5 + n % 3)]
        self.evening.store(events)

    def arm_of(self, viewer: str) -> str:
        """The viewer's arm by the record now."""
        return assign(self.record(), viewer).name

    def tick(self, hour: float, *, newest: bool = True) -> Evaluated:
        """Evaluate a moment after so many hours; an impression of the new hour says that the old one is stored."""
        self.clock.set(START + hour * HOUR + 30)
        if newest:
            late = shown("late", f"late-{hour}", "i", hour * HOUR + 20, arm="nobody's")
            self.evening.store([late])
        return self.promotion.evaluate()

    def record(self) -> Record:
        """The experiments' record."""
        return self.promotion.acts.experiments.read()

    def state(self) -> tuple[str, bool]:
        """The experiment's state and whether its labels have followed."""
        one = self.record().experiment
        assert one is not None
        return str(one.state), one.settled

    def traffic(self) -> dict[str, str]:
        """Releases in traffic by label."""
        return read_live(self.place.releases)

    def served(self) -> list[list[int | str]]:
        """What the model server answers with under stable and canary."""
        return [self.place.server.under("stable"), self.place.server.under("canary")]


def edited(config: PromotionConfig, **changes: Any) -> PromotionConfig:
    """The dials with some changed."""
    return msgspec.convert(msgspec.to_builtins(config) | msgspec.to_builtins(changes), PromotionConfig)


__all__ = ["CONFIG", "GATE", "HOUR", "START", "VIEWERS", "Canary", "edited", "utc"]
