"""The MLflow server: model versions and runs in SQLite, artifacts in a folder, one worker."""

from settings import Settings
from stack.part import Part, answers_http, python


def part(settings: Settings) -> Part:
    """The registry's server."""
    home = settings.var / "mlflow"
    address = f"http://{settings.host}:{settings.mlflow_port}"
    command = python(
        "mlflow", "server",
        "--backend-store-uri", f"sqlite:///{home / 'mlflow.db'}",
        "--artifacts-destination", str(home / "artifacts"),
        "--host", settings.host,
        "--port", str(settings.mlflow_port),
        "--workers", "1",
    )  # fmt: skip
    return Part(
        name="mlflow",
        command=command,
        log=settings.logs / "mlflow.log",
        ports=(settings.mlflow_port,),
        # Job workers are eight more processes that nothing here uses.
        environment={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"},
        ready=answers_http(f"{address}/health"),
        prepare=lambda: (home / "artifacts").mkdir(parents=True, exist_ok=True),
        look=address,
    )
