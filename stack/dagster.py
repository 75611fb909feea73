"""Dagster over dagster_project: the web server, and the daemon that runs schedules and automation; SQLite under var/."""

import signal
from pathlib import Path

from settings import Settings
from stack.errors import PartFailed
from stack.part import Part, answers_http, ask_json, log_says, python

DEFINITIONS = "dagster_project.definitions"
STARTED = "Instance is configured with the following daemons"
INSTANCE = """\
# Written at every start. Storage is SQLite in this folder, the default.
telemetry:
  enabled: false
concurrency:
  runs:
    max_concurrent_runs: 1
"""


LOADED = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
    __typename ... on PythonError { message } } } } } }"""


def check_definitions(address: str, *, log: Path) -> None:
    """PartFailed when the web page is up but the project's definitions did not load: an empty page would say nothing."""
    try:
        entries = ask_json(f"{address}/graphql", {"query": LOADED})["data"]["workspaceOrError"]["locationEntries"]
        found = [entry["locationOrLoadError"] or {} for entry in entries]
    except (OSError, ValueError, KeyError, TypeError):
        raise PartFailed(
            f"dagster answers at {address} but does not say whether {DEFINITIONS} loaded: see {log}"
        ) from None
    for entry in found:
        if "message" in entry:
            reason = entry["message"].strip().splitlines()[0].split(". ")[0]
            raise PartFailed(f"dagster answers at {address} but {DEFINITIONS} did not load ({reason}): see {log}")


def home(settings: Settings) -> Path:
    """DAGSTER_HOME."""
    return settings.var / "dagster"


def write_instance(folder: Path) -> None:
    """Make DAGSTER_HOME with its dagster.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dagster.yaml").write_text(INSTANCE)


def parts(settings: Settings) -> tuple[Part, Part]:
    """Web server and daemon; the daemon waits for the web server, which creates the database."""
    folder = home(settings)
    environment = {"DAGSTER_HOME": str(folder)}
    address = f"http://{settings.host}:{settings.dagster_port}"
    arguments = ("-h", settings.host, "-p", str(settings.dagster_port), "-m", DEFINITIONS)
    web = Part(
        name="dagster",
        command=python("dagster_webserver", *arguments),
        log=settings.logs / "dagster.log",
        ports=(settings.dagster_port,),
        environment=environment,
        ready=answers_http(f"{address}/server_info"),
        prepare=lambda: write_instance(folder),
        settle=lambda: check_definitions(address, log=settings.logs / "dagster.log"),
        stop_signal=signal.SIGINT,
        look=address,
    )
    daemon = Part(
        name="dagster-daemon",
        command=python("dagster._daemon", "run", "-m", DEFINITIONS),
        log=settings.logs / "dagster-daemon.log",
        environment=environment,
        ready=lambda: log_says(settings.logs / "dagster-daemon.log", STARTED),
        needs=("dagster",),
        stop_signal=signal.SIGINT,
    )
    return web, daemon
