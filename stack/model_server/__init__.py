"""A server for SavedModels that speaks TensorFlow Serving's gRPC, for machines without its binary or image.

Behaviour, flags and error texts follow tensorflow_model_server 2.21; docs/guides/model-server.md lists what differs.
"""

import os

# Before TensorFlow loads anywhere in this process: the platform's models are made with the Keras that TFRS speaks.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
