"""The one place that imports TensorFlow and TensorFlow Recommenders: legacy Keras, CPU, two threads."""

import os
import random
from typing import Any

import training

if "TF_USE_LEGACY_KERAS" not in os.environ:  # `training` sets it; TensorFlow Recommenders refuses Keras 3
    raise ImportError(f"{training.__name__} must set TF_USE_LEGACY_KERAS before TensorFlow loads")

import numpy as np
import tensorflow as _tensorflow
import tensorflow_recommenders as _recommenders

# Untyped packages: named Any here once, so that the rest of the room type-checks without stubs.
tf: Any = _tensorflow
tfrs: Any = _recommenders
THREADS = 2


def configure() -> None:
    """CPU only, two threads; without effect once TensorFlow has run something in this process."""
    try:
        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    except RuntimeError:
        return  # devices are fixed by the first operation; then this was done before, or a test did it for us


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and TensorFlow, after `configure`."""
    configure()
    tf.keras.utils.set_random_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
