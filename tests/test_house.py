"""The house holds: file map and settings page agree with the tree, files stay small, each module says what it is."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from settings import PREFIX, Settings, SettingsError, load, markdown

ROOT = Path(__file__).resolve().parent.parent
OURS = [
    path
    for path in sorted(ROOT.glob("*/**/*.py")) + sorted(ROOT.glob("*.py"))
    if path.relative_to(ROOT).parts[0] not in {".venv", ".uv", "var"} and not path.name.endswith("_pb2.py")
]


def tracked_folders() -> set[str]:
    """Top-level folders that git knows (or would add)."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return {name.split("/")[0] for name in listed if "/" in name and not name.startswith(".")}


def test_the_readme_file_map_names_every_top_level_folder_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    mapped = set(re.findall(r"^    ([a-z_.]+)/ ", readme, flags=re.MULTILINE))
    assert mapped == tracked_folders()


def test_the_settings_page_is_what_the_settings_say() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == markdown()


def test_every_setting_has_help() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("path", OURS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_opens_with_what_it_is_and_stays_under_four_hundred_lines(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{path.name} has no opening docstring"
    assert text.count("\n") <= 400


@pytest.mark.parametrize(
    "path", [p for p in OURS if p.relative_to(ROOT).parts[0] != "tests"], ids=lambda p: str(p.relative_to(ROOT))
)
def test_functions_stay_under_sixty_lines(path: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno
        and node.end_lineno - node.lineno >= 60
    ]
    assert long == []


def test_an_unknown_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "KAFKA_PROT", "1")
    with pytest.raises(SettingsError, match=r"unknown setting LIVEFEED_KAFKA_PROT; allowed are .*LIVEFEED_KAFKA_PORT"):
        load()


def test_a_bad_setting_names_its_variable_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "REDIS_PORT", "99999")
    with pytest.raises(SettingsError, match=r"LIVEFEED_REDIS_PORT='99999' is not allowed: .*65535"):
        load()


def test_settings_travel_to_child_processes_unchanged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sent = Settings(var=tmp_path, clock="request", redis_port=4242)
    for name, value in sent.environment().items():
        monkeypatch.setenv(name, value)
    got = load()
    assert (got.var, got.clock, got.redis, got.lake) == (
        tmp_path,
        "request",
        "redis://127.0.0.1:4242/0",
        tmp_path / "lake",
    )
