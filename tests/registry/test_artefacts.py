"""Files of a release beside its models: named with their checksums, and looked at again."""

from pathlib import Path

import pytest

from registry.errors import BadManifest
from registry.manifest import MANIFEST, Manifest, check_artefacts, checksums, read_manifest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc", FIPS 180-4 example
BEFORE = b"""{"line": "demo", "version": 3, "created_at": "", "objectives": [], "formula": {}, "tables": {}, "metrics": {},
"dials": {}}"""


def manifest(artefacts: dict[str, str]) -> Manifest:
    return Manifest(
        line="demo", version=3, created_at="", objectives=(), formula={}, tables={}, metrics={}, dials={},
        artefacts=artefacts,
    )  # fmt: skip


def test_a_checksum_is_by_path_within_the_folder(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "x").write_bytes(b"abc")
    assert checksums(tmp_path, [tmp_path / "part" / "x"]) == {"part/x": ABC}
    check_artefacts(tmp_path, manifest({"part/x": ABC}))


@pytest.mark.parametrize(("body", "said"), [(b"abd", "is not what its manifest says"), (None, "lacks an artefact")])
def test_an_artefact_that_changed_or_is_gone_is_named(tmp_path: Path, body: bytes | None, said: str) -> None:
    if body is not None:
        (tmp_path / "x").write_bytes(body)
    with pytest.raises(BadManifest, match=said):
        check_artefacts(tmp_path, manifest({"x": ABC}))


def test_a_manifest_from_before_there_were_artefacts_reads_as_having_none(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(BEFORE)
    found = read_manifest(tmp_path)
    assert (found.name, found.artefacts) == ("demo-3", {})
    check_artefacts(tmp_path, found)
