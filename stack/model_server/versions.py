"""The versions of a model on disk: integer sub-folders of its base path, and which of them a policy wants served."""

import re
from pathlib import Path

from stack.model_server.config import Policy

INT64_MAX = 2**63 - 1


def found(base_path: Path) -> dict[int, Path]:
    """Version folders by number; FileNotFoundError when the base path is not there.

    Only names that read as an int64 count ("00000123" is 123; of two names of one number the last in name order), so a folder
    being written under another name is published by renaming it.
    """
    out: dict[int, Path] = {}
    for path in sorted(base_path.iterdir(), key=lambda entry: entry.name):
        if re.fullmatch(r"-?[0-9]+", path.name) and abs(int(path.name)) <= INT64_MAX and path.is_dir():
            out[int(path.name)] = path
    return out


def aspired(policy: Policy, on_disk: dict[int, Path]) -> dict[int, Path]:
    """The versions to serve, highest first."""
    ordered = dict(sorted(on_disk.items(), reverse=True))
    if policy.specific is not None:
        return {number: path for number, path in ordered.items() if number in policy.specific}
    if policy.latest is None:
        return ordered
    return dict(list(ordered.items())[: policy.latest])
