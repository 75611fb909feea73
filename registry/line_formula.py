"""The formula that an increment of a line is trained under: that of the line's release in traffic, so that it is not lost.

formula_of(releases, "demo-likes")    # what was promoted as demo-likes-7, for demo-likes-8
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from registry.errors import RegistryError
from registry.experiment import line_of
from registry.formula import Formula, parse
from registry.manifest import DEFAULT_FORMULA, Manifest, read_live, read_manifest


def formula_of(releases: Path, line: str) -> dict[str, Any] | None:
    """The formula of the line's release: in traffic as stable, else as canary, else its newest; None for the usual one.

    BadManifest when what is in traffic cannot be read. The usual formula is not handed on as such: it takes in every
    objective that there is, and which there are may change from one increment to the next.
    """
    live = [name for _, name in sorted(read_live(releases).items(), reverse=True) if line_of(name) == line]
    found = read_manifest(releases / live[0]) if live else _newest(releases, line)
    if found is None or parse(found.formula, found.objectives) == usual(found.objectives):
        return None
    return found.formula


def usual(objectives: Sequence[str]) -> Formula:
    """The default formula over these objectives."""
    return parse({name: DEFAULT_FORMULA[name] for name in objectives if name in DEFAULT_FORMULA}, objectives)


def _newest(releases: Path, line: str) -> Manifest | None:
    found = []
    for folder in releases.glob(f"{line}-*") if releases.is_dir() else ():
        try:
            found.append(read_manifest(folder))
        except RegistryError:  # no release, or a draft of one
            continue
    return max((one for one in found if one.line == line), key=lambda one: one.version, default=None)
