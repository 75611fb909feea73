"""The `livefeed` command: one group of sub-commands a room, nothing of its own.

livefeed --help
"""

import sys

import typer

import benchmarks.__main__ as benchmarks_commands
import collector.__main__ as collector_commands
import dagster_project.__main__ as pipeline_commands
import events.__main__ as events_commands
import features.__main__ as features_commands
import monitoring.__main__ as monitoring_commands
import registry.__main__ as registry_commands
import release.__main__ as release_commands
import serving.__main__ as serving_commands
import simulator.__main__ as world_commands
import stack.__main__ as stack_commands
import training.__main__ as training_commands
from collector import rebuild_commands
from features import upkeep_commands
from release import forget_commands, promotion_commands
from settings import SettingsError, load
from stack.demo.command import demo

app = typer.Typer(
    name="livefeed",
    help="An open recommender platform for live streaming and media.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(stack_commands.app, name="stack", help="The real parts on one machine: up, status, down.")
forget_commands.mount(events_commands.app)
app.add_typer(events_commands.app, name="events", help="What happened: topics, schema, produce, replay, dead letters.")
app.add_typer(collector_commands.app, name="collector", help="Events to stores: run, status.")
rebuild_commands.mount(features_commands.app)
upkeep_commands.mount(features_commands.app)
app.add_typer(features_commands.app, name="features", help="What we know: feature tables, samples, definitions.")
app.add_typer(training_commands.app, name="training", help="Samples to model: train, evaluate.")
app.add_typer(monitoring_commands.app, name="monitoring", help="Still true, better, fair: judge, drift, skew.")
app.add_typer(registry_commands.app, name="registry", help="What was trained: list, show.")
app.add_typer(release_commands.app, name="release", help="Verdict to traffic: deploy, status, roll back.")
app.add_typer(promotion_commands.app, name="promotion", help="Canaries: start, decide, promote, roll back, history.")
app.add_typer(serving_commands.app, name="serving", help="The feed proxy: run.")
app.add_typer(pipeline_commands.app, name="pipeline", help="The Dagster asset graph: run.")
app.add_typer(world_commands.app, name="world", help="The simulator: run, report, worlds.")
app.command("bench")(benchmarks_commands.bench)
app.command("demo")(demo)


def main() -> None:
    """Check the settings once, then run the command; a bad setting is one sentence and exit status 2."""
    try:
        load()
    except SettingsError as error:
        print(f"livefeed: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    app()


if __name__ == "__main__":
    main()
