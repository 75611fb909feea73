"""Whether the proxy can make what a release's models take: tried when it is loaded, on a viewer and an item of nobody's."""

import math

import numpy as np

from events.schema import Surface
from features.encoder import ITEM_TENSORS, USER_TENSORS, Encoder
from features.packing import Packing
from features.store import MemoryStore
from serving.catalogue import Catalogue
from serving.codes import Codes
from serving.errors import ReleaseRefused
from serving.sides import COLUMNS, Pool


def try_inputs(encoder: Encoder, packing: Packing | None) -> None:
    """ReleaseRefused unless both models' inputs can be made as a request makes them."""
    try:
        codes = Codes(encoder, Catalogue(MemoryStore()), packing)
        pool = Pool(np.zeros(1, np.intp), np.zeros(1, np.int8), np.zeros(1, np.int32), np.zeros(1, np.int8))
        codes.inputs(pool, np.full((1, len(COLUMNS)), math.nan), Surface.HOME)
        viewer = encoder.encode([{}], USER_TENSORS)
        if packing is not None:
            packing.pack_user(viewer)
        encoder.encode([{}, {}], ITEM_TENSORS)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise ReleaseRefused(f"its encoder and its packing make no inputs for its models: {error!r}") from None
