"""Room 5, samples to model: two-tower retrieval, multi-task ranking, evaluation by time split, export.

The two variables must be set before TensorFlow loads: TensorFlow Recommenders needs the legacy Keras, and the C++ side
otherwise prints a page on every start.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
