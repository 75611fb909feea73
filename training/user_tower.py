"""Writes the viewer's side of an exported two-tower as a LiteRT file, which the proxy runs itself (features/user_tower.py).

    write_user_tower(release / USER_TOWER, models / "two_tower", packing, viewers=packing.pack_user(tensors))

It holds every table that the viewer's side reads, so it is about as large as the two-tower. A LiteRT file ends at 2 GiB: of a
two-tower that would not fit there is none, and its viewers are embedded through the model server.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from features.encoder import Tensor
from features.errors import BadUserTower
from features.packing import USER_ARRAYS, Packing
from features.user_tower import OUTPUT, SIGNATURE, UserTower
from training.errors import UnreadableExport
from training.serving_signatures import largest
from training.tf import tf

MOST_BYTES = 2_000_000_000  # of the two-tower's variables as saved
TOLERANCE = 1e-5  # absolute, from what the SavedModel gives


def write_user_tower(
    path: Path, model: Path, packing: Packing, *, viewers: Mapping[str, Tensor], most_bytes: int = MOST_BYTES
) -> str:
    """Convert the SavedModel's packed signature and hold it against the SavedModel on `viewers`, packed arrays [n, ...].

    Empty, or why there is none: then the model server is asked for her embeddings. UnreadableExport when what was written
    cannot be read or answers otherwise.
    """
    path.unlink(missing_ok=True)  # an earlier run's is not this model's; whoever mapped it keeps it
    size = sum(part.stat().st_size for part in (model / "variables").iterdir())
    if size > most_bytes:
        return f"no user tower: the two-tower has {size:,} bytes of variables, and at most {most_bytes:,} fit"
    try:
        body = tf.lite.TFLiteConverter.from_saved_model(str(model), signature_keys=[SIGNATURE]).convert()
    except Exception as error:  # noqa: BLE001  the converter's own error has no public name and no base but this
        return f"no user tower: the two-tower cannot be converted: {(str(error) or repr(error)).splitlines()[0]}"
    path.write_bytes(body)
    try:
        tower = UserTower(path, packing)
        got = np.stack([tower.embed(_row(viewers, n)) for n in range(len(viewers[USER_ARRAYS[0]]))])
    except BadUserTower as error:
        raise UnreadableExport(str(error)) from None
    loaded = tf.saved_model.load(str(model))  # held: a signature alone lets the variables go
    want = loaded.signatures[SIGNATURE](**{name: tf.constant(viewers[name]) for name in USER_ARRAYS})[OUTPUT].numpy()
    gap = largest(got, want)
    if not gap <= TOLERANCE:  # also when it is not a number
        raise UnreadableExport(f"user tower {path} differs from {model} by {gap}; at most {TOLERANCE} is allowed")
    return ""


def _row(viewers: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: viewers[name][n : n + 1] for name in USER_ARRAYS}
