"""Who may come under a label: a line reaches stable by a promotion alone, and a running canary keeps its label to itself.

    guard = Guard(releases, label="stable", clock=clock, who="ada", why="")
    deploy(candidate, verdict, may=guard, ...)    # asked inside the deployment's lock; Barred before anything is done

Whoever gives a reason (`--why`) is let through, and the reason is in the promotions' history before anything moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from events.clock import Clock
from registry.errors import BadVerdict
from registry.experiment import Experiment, Experiments, State, line_of
from registry.manifest import Manifest, read_live
from registry.verdict import Reason, read_verdict
from release.errors import Barred
from release.traffic import CANARY
from serving.feed import STABLE

_ONLY = Reason.MODELS_PASSED
ALONE = "it comes to stable by a promotion alone"


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Asked by a deployment or a roll-back before it does anything; Barred says what stands against it."""

    releases: Path
    clock: Clock
    who: str
    label: str = STABLE
    why: str = ""  # a reason lets everything through, and goes into the history
    back: bool = False  # a roll-back: a line that was promoted last may come again

    def __call__(self, manifest: Manifest) -> None:
        """Return when the release may come under the label; Barred, RegistryError."""
        store = Experiments(self.releases)
        found = self._against(store.every(), manifest)
        if found and not self.why:
            raise Barred(
                f"{manifest.name} is not put under {self.label}: {found}; a reason given with --why overrides this and is "
                "kept in the history"
            )
        if self.why:
            what = f"{manifest.name} put under {self.label} by hand{f', against: {found}' if found else ''}"
            store.note(who=self.who, at=self.clock.now(), what=what, why=self.why)

    def _against(self, experiments: Sequence[Experiment], manifest: Manifest) -> str:
        if self.label == CANARY:
            return taken(experiments, release=manifest.name)
        stable = read_live(self.releases).get(STABLE, "")
        found = barred(experiments, stable, line=manifest.line, release=manifest.name, back=self.back)
        return found or self._unjudged(experiments, manifest.name)

    def _unjudged(self, experiments: Sequence[Experiment], release: str) -> str:
        """Why a published release has never been judged with its formula; "" where it has, or came without a verdict."""
        if any(one.release == release and one.state is State.PROMOTED for one in experiments):
            return ""
        try:
            reasons = read_verdict(self.releases / release).reasons
        except BadVerdict:
            return ""
        return f"the models of {release} passed, its formula was never judged: {ALONE}" if _ONLY in reasons else ""


def barred(
    experiments: Sequence[Experiment], stable: str, *, line: str, release: str = "", back: bool = False
) -> str:  # fmt: skip
    """Why a release must not become stable without a promotion; "" when nothing stands against it.

    `experiments` are all there ever were, oldest first, each as it last was; `stable` is the live release, "" for none. A
    line that was promoted once and is no longer stable is not let in by a deployment, or a learning job would undo the
    promotion that followed; only a roll-back brings it again.
    """
    runs = _running(experiments)
    if runs is not None and line == runs.line == runs.control_line:
        return f"{runs.id} is {runs.state}: stable must not change under a canary of its own line"
    if stable and line == line_of(stable):
        tried = next((one for one in reversed(experiments) if one.release == release), None)
        refused = tried is not None and tried.state is not State.PROMOTED
        return f"{release} is {tried.state} in {tried.id}: {ALONE}" if tried is not None and refused else ""
    last = next((one for one in reversed(experiments) if one.line == line != one.control_line), None)
    if last is not None and last.state is not State.PROMOTED:
        return f"line {line} is {last.state} in {last.id}: {ALONE}"
    if not stable or (back and last is not None):
        return ""
    return f"line {line} is not the line of {stable}, which is stable: {ALONE}"


def taken(experiments: Sequence[Experiment], *, release: str) -> str:
    """Why a release must not become the canary by hand; "" when nothing stands against it."""
    runs = _running(experiments)
    if runs is None or runs.is_canary(release):
        return ""
    return f"{runs.id} is {runs.state}, and its canary is {runs.release}"


def _running(experiments: Sequence[Experiment]) -> Experiment | None:
    return experiments[-1] if experiments and experiments[-1].state.runs else None
