"""A release of the same models with another formula, so that a formula can have its canary: a candidate to be started.

    make_variant(var / "releases" / "demo-7", line="demo-likes", formula={"click": 1.0, "like": 3.0}, into=var / "candidates")

The variant is a line of its own (verdict and audit attach to a line), with the models' version: `demo-likes-7`. Its large
files are hard links where the disk allows it, and publishing finds the models where they are. Its parent's verdict is not its
own: where the models passed, the variant's says just that, which is enough for a canary and never for stable.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from registry.errors import BadFormula, BadVerdict
from registry.formula import parse
from registry.manifest import read_manifest, write_manifest
from registry.verdict import VERDICT, Reason, Verdict, read_verdict, write_verdict
from release.errors import BadCandidate
from release.publish import check

LARGE = 1 << 16  # bytes: weights and embeddings are, manifests and verdicts are not


def make_variant(release: Path, *, line: str, formula: Mapping[str, Any], into: Path) -> Path:
    """Write the candidate `<into>/<line>-<version>` and return it; again is harmless.

    BadCandidate when the release is not whole, the formula does not fit its objectives or changes nothing, or another
    candidate has the name.
    """
    manifest = check(release).manifest
    try:
        wanted, held = (parse(one, manifest.objectives) for one in (dict(formula), manifest.formula))
    except BadFormula as error:
        raise BadCandidate(f"no variant of {manifest.name}: {error}") from None
    if line == manifest.line or wanted == held:
        raise BadCandidate(
            f"a variant of {manifest.name} needs a line and a formula of its own; given are {line} and the same formula"
            if wanted == held
            else f"a variant of {manifest.name} needs a line of its own; given is {line}"
        )
    made = msgspec.structs.replace(manifest, line=line, formula=dict(formula), mlflow_run="")
    target = into / made.name
    if target.exists():
        if msgspec.structs.replace(read_manifest(target), mlflow_run="") != made:  # registering notes its run
            raise BadCandidate(f"candidate {target} is there already and is not this variant; give another line")
        return target
    into.mkdir(parents=True, exist_ok=True)
    draft = into / f".draft-{made.name}-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(release, draft, copy_function=_link)
    write_manifest(draft, made)
    _judge_models(release, draft)
    draft.rename(target)
    return target


def _judge_models(release: Path, draft: Path) -> None:
    """Leave the variant a verdict on its models where the release passed, and none where it did not."""
    (draft / VERDICT).unlink(missing_ok=True)
    try:
        parent = read_verdict(release)
    except BadVerdict:
        return
    if parent.passed:
        write_verdict(
            draft,
            Verdict(outcome=parent.outcome, reasons=(Reason.MODELS_PASSED,), decided_at=parent.decided_at),
        )


def _link(source: str, target: str) -> None:
    """Share a large file's bytes where source and target lie on one disk; small ones are written again, so copied."""
    if Path(source).stat().st_size >= LARGE:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another disk, or one without links
    shutil.copy2(source, target)
