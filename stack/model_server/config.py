"""Which models to serve, from which folders and in which versions: the ModelServerConfig text file as frozen values."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from stack.model_server.errors import ServingError

log = logging.getLogger("model_server")
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
    """A text-format list of models, checked as a whole; ServingError in upstream's words when it may not be."""
    message = read(text, file=file)
    if message.WhichOneof("config") == "custom_model_config":
        raise ServingError.invalid("Missing custom_model_config_loader in ServerCore Options")
    rows = message.model_config_list.config
    check_list(rows)
    check_platforms(rows)
    return models_of(rows)


def read(text: str, *, file: str) -> Any:
    """A text-format ModelServerConfig message; INVALID_ARGUMENT when it is none, with the place in the log."""
    message = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        log.error("Error parsing text-format tensorflow.serving.ModelServerConfig: %s", error)
        raise ServingError.invalid(f"Invalid protobuf file: '{file}'") from None
    return message


def check_list(rows: Any) -> None:
    """INVALID_ARGUMENT for a name listed twice, then for a path that is neither absolute nor a URI."""
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise ServingError.invalid(f"Illegal to list model {row.name} multiple times in config list")
        seen.add(row.name)
    for row in rows:
        if not (row.base_path.startswith("/") or re.match(r"[A-Za-z][A-Za-z0-9.]*://", row.base_path)):
            raise ServingError.invalid(
                f"Expected model {row.name} to have an absolute path or URI; got base_path()={row.base_path}"
            )


def check_platforms(rows: Any) -> None:
    """INVALID_ARGUMENT for a model of a platform that is not served."""
    for row in rows:
        if (platform := platform_of(row)) != PLATFORM:
            raise ServingError.invalid(f"Model {row.name} requests unsupported platform {platform}")


def platform_of(row: Any) -> str:
    """The platform that a ModelConfig message names, in one of two ways; INVALID_ARGUMENT for both or neither."""
    if row.model_type and row.model_platform:
        raise ServingError.invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform."
        )
    if row.model_type and row.model_type != model_server_config_pb2.TENSORFLOW:
        raise ServingError.invalid(f"ModelServerConfig::model_type choice {row.model_type} not supported.")
    if not (row.model_type or row.model_platform):
        raise ServingError.invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
        )
    return str(row.model_platform) or PLATFORM


def models_of(rows: Any) -> tuple[ModelConfig, ...]:
    """ModelConfig messages as values; the checks stand apart because a reload makes them at different moments."""
    return tuple(ModelConfig(row.name, Path(row.base_path), _policy(row), dict(row.version_labels)) for row in rows)


def _policy(row: Any) -> Policy:
    chosen = row.model_version_policy.WhichOneof("policy_choice")
    if chosen == "all":
        return Policy(latest=None)
    if chosen == "specific":
        return Policy(latest=None, specific=frozenset(row.model_version_policy.specific.versions))
    return Policy(latest=row.model_version_policy.latest.num_versions or 1)
