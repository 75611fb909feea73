"""The model server as a part: a configuration that names the platform's models, and the command that serves them."""

import os
from pathlib import Path

from registry.manifest import RANKER, TWO_TOWER
from settings import Settings
from stack.part import HUGE_PAGES, Part, listens, python

# gRPC's listener before its newer engine, whose threads hand every call on: a ranking takes 1.55 ms of the server instead of
# 1.66 (500 candidates, the reference ranker).
OLDER_LISTENER = {"GRPC_EXPERIMENTS": "-event_engine_listener"}
MODELS = (TWO_TOWER, RANKER)
CONFIG = "models.config"


def part(settings: Settings) -> Part:
    """The server; a model whose folder is still empty is waited for while it serves the rest."""
    config = settings.models / CONFIG
    command = python(
        "stack.model_server",
        f"--port={settings.model_server_port}",
        f"--model_config_file={config}",
        "--model_config_file_poll_wait_seconds=1",
        "--allow_version_labels_for_unavailable_models=true",
        # Versions are published whole by a rename: one that does not load now will not load in a minute.
        "--max_num_load_retries=0",
        # More threads than cores only take turns: 1.27 ms a ranking with two of them, 1.41 with eight.
        f"--grpc_max_threads={os.cpu_count() or 1}",
        # The platform starts before its first model is trained.
        "--open_port_before_models",
    )
    return Part(
        name="model-server",
        command=command,
        log=settings.logs / "model-server.log",
        ports=(settings.model_server_port,),
        ready=lambda: listens(settings.host, settings.model_server_port),
        environment=HUGE_PAGES | OLDER_LISTENER,
        prepare=lambda: write_first_config(config),
        look=f"{settings.host}:{settings.model_server_port} (gRPC)",
    )


def write_first_config(path: Path) -> None:
    """Write the configuration if there is none; a deployment may since have written another, which stays."""
    for name in MODELS:
        # A missing folder would make every poll give up, for all models.
        (path.parent / name).mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    # Two versions: requests of the release before go on while the proxies move to the new one.
    rows = "".join(
        f'  config {{ name: "{name}" base_path: "{path.parent / name}" model_platform: "tensorflow" '
        "model_version_policy { latest { num_versions: 2 } } }\n"
        for name in MODELS
    )
    draft = path.with_suffix(".draft")
    draft.write_text(f"model_config_list {{\n{rows}}}\n")
    draft.replace(path)
