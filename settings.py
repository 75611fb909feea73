"""Every setting of Livefeed, its default and its help, read once from the environment by entry points.

Each field is the environment variable `LIVEFEED_<NAME>`. Only cli.py, dagster_project/, stack/, benchmarks/, tests/ and the
rooms' `__main__.py` import this module; rooms get plain values as arguments.
"""

import os
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "LIVEFEED_"
SECRETS = (f"{PREFIX}CURSOR_KEY", f"{PREFIX}ADMIN_TOKEN")  # values that no message repeats


class SettingsError(Exception):
    """A setting in the environment has a value that is not allowed; the message is one sentence."""


class Settings(BaseSettings):
    """The settings in force; construct with `load()` at an entry point, never at import."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    var: Path = Field(
        Path("var"), description="folder of all state: logs, tables, models, Redis, Kafka, MLflow, Dagster"
    )
    jars: Path = Field(
        Path("~/.cache/livefeed/jars"), description="cache folder of the broker's and Delta's Java archives"
    )
    host: Literal["127.0.0.1"] = Field("127.0.0.1", description="address every part binds to: loopback only")

    kafka_port: int = Field(19092, ge=1, le=65535, description="port of the Kafka broker")
    kafka_controller_port: int = Field(19093, ge=1, le=65535, description="port of the Kafka KRaft controller")
    redis_port: int = Field(16379, ge=1, le=65535, description="port of Redis")
    mlflow_port: int = Field(15000, ge=1, le=65535, description="port of the MLflow server")
    dagster_port: int = Field(13000, ge=1, le=65535, description="port of the Dagster web server")
    model_server_port: int = Field(18500, ge=1, le=65535, description="gRPC port of the model server")
    proxy_port: int = Field(18080, ge=1, le=65535, description="HTTP port of the feed proxy")
    metrics_port: int = Field(18081, ge=1, le=65535, description="port of the collector's Prometheus metrics")

    admin_port: int = Field(18082, ge=1, le=65535, description="port of the feed proxy's administration")
    admin_host: str = Field(
        "127.0.0.1", description="IP address of the administration; other than loopback only with a token"
    )
    admin_token: str = Field("", description="Bearer token of the administration, 32 characters or more; empty: none")

    kafka_bootstrap: str = Field("", description="broker address host:port; empty: the embedded broker")
    redis_address: str = Field("", description="redis://host:port/db or redis+cluster://host:port; empty: our own")
    mlflow_address: str = Field("", description="MLflow tracking address; empty: the embedded server")
    model_server_address: str = Field(
        "", description="gRPC host:port of TensorFlow Serving; empty: the embedded server"
    )

    topic_partitions: int = Field(4, ge=1, le=1024, description="partitions of every topic when it is created")
    lateness_s: float = Field(
        3600.0, gt=0, description="lateness bound, event-time seconds: older events are flagged late"
    )
    ahead_s: float = Field(
        86400.0,
        gt=0,
        description="an event time further ahead of the wall clock, in seconds, is refused; not in time-lapse",
    )
    commit_every_s: float = Field(10.0, gt=0, description="wall seconds between two commits to the offline tables")
    flush_every_s: float = Field(0.2, gt=0, description="wall seconds between two writes to the online store")
    retention_days: int = Field(
        400, ge=0, description="days of event time that `livefeed features expire` keeps of each table; 0: all of them"
    )
    vacuum_hours: int = Field(
        168, ge=1, description="hours for which old versions of the offline tables stay readable after a vacuum"
    )
    clock: Literal["wall", "request"] = Field(
        "wall", description="what the proxy calls now: the wall clock, or the X-Livefeed-Now header (time-lapse worlds)"
    )
    partitions_start: date = Field(date(2026, 11, 1), description="first event date of the daily partitions")
    partitions_end: date | None = Field(
        None, description="day after the last event date; empty: grows with the calendar"
    )
    spark_memory: str = Field("2g", pattern=r"^\d+[kmg]$", description="memory of the local Spark driver")
    spark_cores: int = Field(2, ge=1, le=256, description="threads of the local Spark driver")
    request_budget_ms: float = Field(150.0, gt=0, description="time a feed request may take, all stages together")
    explore_epsilon: float = Field(
        0.2,
        ge=0,
        le=1,
        description="probability that an explored place shows a draw, not the item by merit; 0: none is explored",
    )
    explore_pool: int = Field(
        200,
        ge=1,
        description="items that a page's explored places draw from; fewer: more of the log tells of a candidate",
    )
    cursor_key: str = Field(
        "", description="key that signs cursors, 32 characters or more, the same for all proxies; empty: made under var"
    )
    token_keys: str = Field(
        "", description="JWKS file of the keys that sign viewer tokens; empty: no token is asked for"
    )
    token_issuer: str = Field("", description="`iss` that viewer tokens must have; empty: any")
    token_audience: str = Field("", description="`aud` that viewer tokens must have; empty: they must have none")
    token_leeway_s: float = Field(30.0, ge=0, description="seconds by which clocks may differ for a viewer token")
    viewer_rate: float = Field(100.0, ge=0, description="feeds a second for a viewer, a proxy process; 0: any number")
    address_rate: float = Field(
        2_000.0, ge=0, description="requests a second for a client address, a proxy process; 0: any number"
    )
    feeds_at_once: int = Field(
        32, ge=1, le=1024, description="feeds under way in a proxy process; more are answered with what trends"
    )
    line: str = Field(
        "demo", pattern=r"^[a-z][a-z0-9_-]*$", description="name of the model line that is trained and served"
    )

    @field_validator("var", "jars")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        """Child processes may run elsewhere: `~` and relative folders are resolved where the setting is read."""
        return path.expanduser().absolute()

    @field_validator("cursor_key", "admin_token")
    @classmethod
    def _long(cls, secret: str) -> str:
        """A short secret can be guessed."""
        if secret and len(secret) < 32:
            raise ValueError(f"it has {len(secret)} characters; allowed are none, or 32 or more")
        return secret

    @property
    def kafka(self) -> str:
        """Broker address in force."""
        return self.kafka_bootstrap or f"{self.host}:{self.kafka_port}"

    @property
    def redis(self) -> str:
        """Redis address in force."""
        return self.redis_address or f"redis://{self.host}:{self.redis_port}/0"

    @property
    def mlflow(self) -> str:
        """MLflow tracking address in force."""
        return self.mlflow_address or f"http://{self.host}:{self.mlflow_port}"

    @property
    def model_server(self) -> str:
        """gRPC address of the model server in force."""
        return self.model_server_address or f"{self.host}:{self.model_server_port}"

    @property
    def proxy(self) -> str:
        """Base address of the feed proxy."""
        return f"http://{self.host}:{self.proxy_port}"

    @property
    def admin(self) -> str:
        """Base address of the feed proxy's administration."""
        host = f"[{self.admin_host}]" if ":" in self.admin_host else self.admin_host
        return f"http://{host}:{self.admin_port}"

    @property
    def dagster(self) -> str:
        """Address of the Dagster web page."""
        return f"http://{self.host}:{self.dagster_port}"

    @property
    def lake(self) -> Path:
        """Folder of the offline (Delta Lake) tables."""
        return self.var / "lake"

    @property
    def models(self) -> Path:
        """Folder the model server polls: `<model>/<version>/saved_model.pb`."""
        return self.var / "models"

    @property
    def releases(self) -> Path:
        """Folder of whole releases and the `live.json` pointer the proxy watches."""
        return self.var / "releases"

    @property
    def logs(self) -> Path:
        """Folder of one log file a part."""
        return self.var / "log"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for child processes; paths are absolute."""
        out = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is None:
                continue
            out[PREFIX + name.upper()] = str(value)
        return out


def load() -> Settings:
    """Read the environment once; a bad or unknown LIVEFEED_ variable is a SettingsError that names it."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(f"unknown setting {unknown[0]}; allowed are {', '.join(sorted(known))}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        value = "…" if name in SECRETS else os.environ.get(name)
        raise SettingsError(f"{name}={value!r} is not allowed: {first['msg']}") from None


def markdown() -> str:
    """The settings as a page: docs/settings.md is this text (`python -m settings` prints it)."""
    rows = [
        f"| `{PREFIX}{name.upper()}` | {'' if field.default in (None, '') else f'`{field.default}`'} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    head = "# Settings\n\nRead once from the environment by every command.\n\n"
    head += "| variable | default | what it is |\n| --- | --- | --- |\n"
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
