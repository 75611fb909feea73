"""Which models and versions the model server holds: its configuration file, in TensorFlow Serving's text format."""

from collections.abc import Collection, Iterable
from pathlib import Path

from registry.manifest import RANKER, TWO_TOWER

CONFIG = "models.config"
SERVED = (TWO_TOWER, RANKER)
KEPT = 2  # the version in traffic and the one before or after it


def write_model_config(models: Path, *, keep: Collection[int] = ()) -> Path:
    """Write the configuration: the newest two versions, or exactly `keep` where the newest two would not cover it.

    Returns the file; it is replaced as a whole, and left alone when it already says this.
    """
    path = models / CONFIG
    models.mkdir(parents=True, exist_ok=True)
    rows = "".join(_model(models / name, _policy(versions_in(models / name), keep)) for name in SERVED)
    text = f"model_config_list {{\n{rows}}}\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        draft = path.with_suffix(".draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return path


def versions_in(folder: Path) -> list[int]:
    """Version folders of one model, ascending; what is not a number is not a version."""
    return sorted(int(one.name) for one in folder.iterdir() if one.name.isdecimal()) if folder.is_dir() else []


def _policy(there: Iterable[int], keep: Collection[int]) -> str:
    newest = sorted({*there, *keep})[-KEPT:]
    if set(keep) <= set(newest):
        return f"latest {{ num_versions: {KEPT} }}"
    return "specific { " + " ".join(f"versions: {version}" for version in sorted(keep)) + " }"


def _model(folder: Path, policy: str) -> str:
    return (
        f'  config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow" '
        f"model_version_policy {{ {policy} }} }}\n"
    )
