"""Which versions the model server holds and which labels they have: its configuration file, in TensorFlow Serving's format.

Versions are named one by one, so that a folder that appears is not loaded before it is asked for, and what is in traffic is
never let go. Both models of a release have one version, hence one set of versions and labels for both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from registry.manifest import RANKER, TWO_TOWER

CONFIG = "models.config"
SERVED = (TWO_TOWER, RANKER)
_VERSION = re.compile(r"\bversions: (\d+)")
_LABEL = re.compile(r'version_labels \{ key: "([^"]+)" value: (\d+) \}')


@dataclass(frozen=True)
class Held:
    """Versions to hold, and the version of each label; with no versions the newest two there are."""

    versions: frozenset[int] = frozenset()
    labels: Mapping[str, int] = field(default_factory=dict)


def write_model_config(models: Path, held: Held) -> Path:
    """Write what both models hold; the file is replaced as a whole, and left alone when it already says this."""
    path = models / CONFIG
    models.mkdir(parents=True, exist_ok=True)
    rows = "".join(_model(models / name, held) for name in SERVED)
    text = f"model_config_list {{\n{rows}}}\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        draft = path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return path


def read_model_config(models: Path) -> Held:
    """What the file says now; nothing where there is none, or where it leaves the versions to the model server."""
    path = models / CONFIG
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    labels = {label: int(version) for label, version in _LABEL.findall(text)}
    return Held(frozenset(map(int, _VERSION.findall(text))), labels)


def _model(folder: Path, held: Held) -> str:
    named = " ".join(f"versions: {version}" for version in sorted(held.versions))
    policy = f"specific {{ {named} }}" if named else "latest { num_versions: 2 }"
    labels = "".join(
        f' version_labels {{ key: "{label}" value: {version} }}' for label, version in sorted(held.labels.items())
    )
    return (
        f'  config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow" '
        f"model_version_policy {{ {policy} }}{labels} }}\n"
    )
