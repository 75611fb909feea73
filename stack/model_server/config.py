"""Which models to serve, from which folders and in which versions: the ModelServerConfig text file as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from stack.model_server.errors import ServingError

PLATFORM = "tensorflow"


@dataclass(frozen=True)
class Policy:
    """Which of the versions found on disk to serve: the newest `latest`, exactly `specific`, or all when both are None."""

    latest: int | None = 1
    specific: frozenset[int] | None = None


@dataclass(frozen=True)
class ModelConfig:
    """One served model: its name, the folder of its versions, the policy and the labels of versions."""

    name: str
    base_path: Path
    policy: Policy = Policy()
    labels: Mapping[str, int] = field(default_factory=dict)


def parse(text: str, *, file: str) -> tuple[ModelConfig, ...]:
    """A text-format ModelServerConfig; ServingError in upstream's words when it is none or asks for what is not served."""
    message = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ServingError.invalid(
            f"Invalid protobuf file: '{file}': Error parsing text-format tensorflow.serving.ModelServerConfig: {error}"
        ) from None
    if message.WhichOneof("config") == "custom_model_config":
        raise ServingError.invalid("ServerModelConfig type not supported. Only ModelConfigList is currently supported")
    return from_proto(message.model_config_list.config)


def from_proto(rows: Any) -> tuple[ModelConfig, ...]:
    """ModelConfig messages as values, checked as a whole."""
    models = tuple(_model(row) for row in rows)
    names = [model.name for model in models]
    for name in names:
        if names.count(name) > 1:
            raise ServingError.invalid(f"Illegal to list model {name} multiple times in config list")
    return models


def _model(row: Any) -> ModelConfig:
    if bool(row.model_type) == bool(row.model_platform):
        raise ServingError.invalid(f"Model {row.name} must set exactly one of model_type and model_platform")
    if row.model_platform and row.model_platform != PLATFORM:
        raise ServingError.invalid(f"Model {row.name} requests unsupported platform {row.model_platform}")
    if not Path(row.base_path).is_absolute():
        raise ServingError.invalid(
            f"Expected model {row.name} to have an absolute path or URI; got base_path()={row.base_path}"
        )
    return ModelConfig(row.name, Path(row.base_path), _policy(row), dict(row.version_labels))


def _policy(row: Any) -> Policy:
    chosen = row.model_version_policy.WhichOneof("policy_choice")
    if chosen == "all":
        return Policy(latest=None)
    if chosen == "specific":
        return Policy(latest=None, specific=frozenset(row.model_version_policy.specific.versions))
    return Policy(latest=row.model_version_policy.latest.num_versions or 1)
