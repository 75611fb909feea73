"""`livefeed promotion start | status | history | decide | off-policy | stop | resume | pin | revert | variant`: by hand."""

import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from monitoring.off_policy_lake import OffPolicyRecord
    from registry.experiment import Experiment
    from release.promotion import Evaluated, Promotion

app = typer.Typer(
    help="A better model into traffic, believed: canary, gate, promotion or rollback.", no_args_is_help=True
)
console = Console(soft_wrap=True)
Why = Annotated[str, typer.Option(help="For the history.")]
Proxies = Annotated[
    list[str] | None, typer.Option("--proxy", help="Administration of a proxy to wait for, http://host:port; repeatable.")
]  # fmt: skip
Now = Annotated[
    datetime | None,
    typer.Option(help="Event time to take for now (UTC). Default: the wall clock; in a time lapse the newest impression."),
]  # fmt: skip


@app.command()
def start(
    candidate: Annotated[Path, typer.Argument(help="Folder of a judged candidate or of a published release.")],
    why: Why,
    share: Annotated[float, typer.Option(help="Of all viewers, in the canary.")] = 0.05,
    baseline: Annotated[float, typer.Option(help="Of all viewers, in the running A/A; 0: none.")] = 0.05,
    ramp_share: Annotated[float, typer.Option(help="Of all viewers, at first.")] = 0.01,
    ramp_hours: Annotated[float, typer.Option(help="Hours of the ramp; 0: none.")] = 1.0,
    shadow_hours: Annotated[
        float, typer.Option(help="Hours loaded everywhere and answering nobody; the log of its choices may end it.")
    ] = 0.0,
    shadow_share: Annotated[float, typer.Option(help="Of all requests, that it chooses for in those hours.")] = 1.0,
    hours: Annotated[int, typer.Option(help="Hours until the decision.")] = 48,
    max_hours: Annotated[int, typer.Option(help="Hours after which an undecided canary ends.")] = 168,
    mde: Annotated[float, typer.Option(help="Lift that must be detectable.")] = 0.05,
    margin: Annotated[float, typer.Option(help="Loss of a guarding metric that is none.")] = 0.05,
    min_viewers: Annotated[int, typer.Option(help="In each arm before anything is tested.")] = 500,
    dials: Annotated[
        Path | None, typer.Option(help="JSON file of further dials, as in a canary's plan.json under config.")
    ] = None,
    off_policy: Annotated[Path | None, typer.Option(help="JSON file of the off-policy verdict; a fail stops.")] = None,
    proxy: Proxies = None,
    now: Now = None,
) -> None:
    """Bring a candidate into traffic as canary; times are event time."""
    from registry.verdict import read_verdict
    from release.promotion_dials import dials_from

    gate = {
        "hours": hours, "day_hours": min(24, hours), "max_hours": max(hours, max_hours), "mde": mde, "margin": margin,
        "min_viewers": min_viewers,
    }  # fmt: skip
    given = {
        "share": share, "baseline": baseline, "ramp_share": min(ramp_share, share), "ramp_hours": ramp_hours,
        "shadow_hours": shadow_hours, "shadow_share": shadow_share, "gate": gate,
    }  # fmt: skip

    def work(settings: Settings) -> None:
        folder = candidate if candidate.exists() else settings.releases / candidate.name
        promotion = _promotion(settings, proxy, now)
        one = promotion.start(
            folder, read_verdict(folder), why=why, config=dials_from(given, dials), off_policy=_off_policy(off_policy)
        )
        _say(f"{one.id} is {one.state}: {_shares(one)}")

    _or_sentence(work)


@app.command()
def status(now: Now = None) -> None:
    """Show the experiment that runs, or the last one, and what was decided about it."""
    from monitoring.canary_log import read_log

    def work(settings: Settings) -> None:
        promotion = _promotion(settings, None, now)
        record = promotion.acts.experiments.read()
        table = Table("what", "value")
        table.add_row("record", f"version {record.version}")
        table.add_row("switched off", "yes" if record.killed else "no")
        table.add_row("pinned", record.pin or "no")
        for name, value in _rows(record.experiment):
            table.add_row(name, value)
        entries = read_log(promotion.log(record.experiment)) if record.experiment else []
        for name, value in _shadow_row(record.experiment, promotion):
            table.add_row(name, value)
        if entries:
            last = entries[-1].decision
            table.add_row("looks decided", str(len({entry.judged.hour for entry in entries})))
            table.add_row("last look", f"hour {last.hour}: {last.action}, {', '.join(last.verdict.reasons)}")
            table.add_row("said", last.text)
        console.print(table)
        if entries and record.experiment:
            _say(f"page: {promotion.page(record.experiment)}")

    _or_sentence(work)


@app.command()
def history(
    limit: Annotated[int, typer.Option(min=1, help="Newest changes to show.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Every change as a JSON line.")] = False,
) -> None:
    """List every change: promotions, rollbacks, phases, switches and pins; who, when and why."""
    import msgspec

    from events.clock import utc
    from registry.experiment import Experiments

    def work(settings: Settings) -> None:
        changes = Experiments(settings.releases).history()
        if as_json:
            for change in changes:
                typer.echo(msgspec.json.encode(change).decode())
            return
        table = Table("version", "when", "who", "what", "why")
        for one in changes[-limit:]:
            table.add_row(str(one.record.version), f"{utc(one.at):%Y-%m-%d %H:%M:%S}", one.who, one.what, one.why)
        console.print(table)

    _or_sentence(work)


@app.command()
def decide(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be decided now.")] = False,
    proxy: Proxies = None,
    now: Now = None,
) -> None:
    """Look, decide and act: what the hourly evaluation does, by hand. Exit 1 when the canary is held."""
    from monitoring.canary_gate import Action

    def work(settings: Settings) -> None:
        promotion = _promotion(settings, proxy, now)
        done = promotion.rehearse() if dry_run else promotion.evaluate()
        _show(done, promotion)
        if done.action is Action.HOLD:
            raise typer.Exit(1)

    _or_sentence(work)


@app.command("off-policy")
def off_policy_(
    as_json: Annotated[bool, typer.Option("--json", help="The whole record as JSON.")] = False, now: Now = None
) -> None:  # fmt: skip
    """Show what the log says of the release in shadow so far, or said when its shadow phase ended."""
    import msgspec

    def work(settings: Settings) -> None:
        promotion = _promotion(settings, None, now)
        one = promotion.acts.experiments.read().experiment
        record = promotion.off_policy(one) if one is not None else None
        if record is None:
            raise _sentence(f"{one.id} is {one.state} and was never in shadow" if one else "there is no experiment")
        if as_json:
            typer.echo(msgspec.json.encode(record).decode())
            return
        _show_off_policy(record)

    _or_sentence(work)


@app.command()
def stop(why: Why, proxy: Proxies = None) -> None:
    """The kill switch: nobody is in any experiment any more, and none starts until `resume`."""

    def work(settings: Settings) -> None:
        one = _promotion(settings, proxy, None).acts.stop(why=why)
        _say("experiments are switched off" + (f"; {one.id} is {one.state}" if one else ""))

    _or_sentence(work)


@app.command()
def resume(why: Why) -> None:
    """Take the kill switch back; what it stopped stays stopped."""
    _or_sentence(lambda settings: _promotion(settings, None, None).acts.resume(why=why))


@app.command()
def pin(
    why: Why,
    label: Annotated[str, typer.Argument(help="Label whose release answers everybody: stable or canary.")] = "",
    off: Annotated[bool, typer.Option("--off", help="Take the pin back.")] = False,
) -> None:
    """Answer everybody by one label's release, or take that back."""
    if bool(label) == off:
        raise _sentence("give either a label or --off")
    _or_sentence(lambda settings: _promotion(settings, None, None).acts.pin(label, why=why))


@app.command()
def revert(why: Why, proxy: Proxies = None) -> None:
    """After a promotion: the release that was stable before it is stable again."""

    def work(settings: Settings) -> None:
        one = _promotion(settings, proxy, None).acts.revert(why=why)
        _say(f"{one.control_release} is stable again")

    _or_sentence(work)


@app.command()
def variant(
    release: Annotated[str, typer.Argument(help="Name of a published release.")],
    line: Annotated[str, typer.Option(help="Name of the variant's own line.")],
    formula: Annotated[str, typer.Option(help='The formula as JSON, such as {"click": 1, "like": 3}.')],
) -> None:
    """Make a candidate of the same models with another formula, for a canary of the formula; prints its folder."""
    from release.promotion_dials import to_object
    from release.variant import make_variant

    def work(settings: Settings) -> None:
        body = to_object(formula, what="--formula")
        _say(str(make_variant(settings.releases / release, line=line, formula=body, into=settings.var / "candidates")))

    _or_sentence(work)


def _promotion(settings: Settings, proxies: list[str] | None, now: datetime | None) -> "Promotion":
    from events.clock import SetClock
    from release.promotion_parts import open_promotion

    return open_promotion(
        settings.var, model_server=settings.model_server, mlflow=settings.mlflow, proxies=proxies or [settings.admin],
        token=settings.admin_token, time_lapse=settings.clock == "request", who=getpass.getuser(), report=_say,
        clock=None if now is None else SetClock(now.replace(tzinfo=UTC).timestamp()),
    )  # fmt: skip


def _off_policy(path: Path | None) -> Any:
    import msgspec

    from monitoring.off_policy_gate import OffPolicyVerdict
    from release.errors import CannotStart

    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=OffPolicyVerdict)
    except (OSError, msgspec.MsgspecError) as error:
        raise CannotStart(f"the off-policy verdict {path} cannot be read: {error}") from None


def _rows(one: "Experiment | None") -> list[tuple[str, str]]:
    from events.clock import utc

    if one is None:
        return [("experiment", "none")]
    begun = "not yet" if one.started_at is None else f"{utc(one.started_at):%Y-%m-%d %H:%M:%S} UTC"
    return [
        ("experiment", one.id), ("state", f"{one.state}{' (labels have followed)' if one.settled else ''}"),
        ("line", one.line), ("canary", one.release), ("against", one.control_release), ("arms now", _shares(one)),
        ("hour 1 begins", begun), ("read back", one.read_back or "not yet"),
    ]  # fmt: skip


def _shadow_row(one: "Experiment | None", promotion: "Promotion") -> list[tuple[str, str]]:
    """What the log said of its shadow phase, once that has ended."""
    from registry.experiment import State
    from release.promotion_shadow import read_record, sentence

    if one is None:
        return []
    record = read_record(promotion.folder / one.id)
    if record is None:
        return [("off-policy", "not yet: livefeed promotion off-policy")] if one.state is State.SHADOW else []
    return [("off-policy", sentence(record).removeprefix("off-policy: "))]


def _show_off_policy(record: "OffPolicyRecord") -> None:
    from release.promotion_shadow import sentence

    read, seen = record.read, record.verdict.overlap
    table = Table("what", "value")
    table.add_row("experiment", record.phase.id)
    table.add_row("outcome", record.verdict.outcome)
    table.add_row("reasons", ", ".join(record.verdict.reasons))
    table.add_row("explored places", f"{read.explored}, of which {record.phase.release} chose at {read.scored}")
    if seen is not None:
        table.add_row("viewers", str(seen.viewers))
        table.add_row("choices differ", f"{seen.differing:.1%} of places, {seen.ess_difference:.0f} effective rows")
    for one in record.verdict.judged:
        table.add_row(f"{one.reward}, {one.method}", " ".join(map(_figure, (one.difference, one.low, one.high))))
    console.print(table)
    _say(sentence(record))


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:+.4g}"


def _shares(one: "Experiment") -> str:
    return ", ".join(f"{arm.name} {one.share_of(arm.name):.1%} ({arm.label})" for arm in one.arms)


def _show(done: "Evaluated", promotion: "Promotion") -> None:
    table = Table("hour", "action", "verdict", "reasons")
    for entry in done.decided:
        one = entry.decision
        table.add_row(str(one.hour), one.action, one.verdict.outcome, ", ".join(one.verdict.reasons))
    if done.decided:
        console.print(table)
        _say(done.decided[-1].decision.text)
    elif not done.said:
        _say("nothing was due")
    for line in done.said:
        _say(line)
    if done.experiment is not None and promotion.page(done.experiment).exists():
        _say(f"page: {promotion.page(done.experiment)}")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False)


def _sentence(message: str) -> typer.Exit:
    sys.stderr.write(f"{message}\n")
    return typer.Exit(1)


def _or_sentence(work: Callable[[Settings], None]) -> None:
    """Run with the settings in force; what goes wrong is one sentence and exit code 1."""
    from features.errors import FeaturesError
    from monitoring.errors import MonitoringError
    from registry.errors import RegistryError
    from release.errors import ReleaseError

    try:
        work(load())
    except (ReleaseError, RegistryError, MonitoringError, FeaturesError, SettingsError) as error:
        raise _sentence(str(error)) from None
