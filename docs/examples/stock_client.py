"""A client that knows nothing of Livefeed: recommendations from any TensorFlow Serving that serves its ranker.

python docs/examples/stock_client.py --address 127.0.0.1:18500 --user-id u17 --language en --liked m3 m9 -k 5

Needs tensorflow-serving-api and grpcio, nothing else. Prints a score and an item id a line; without --candidates the rooms
that were live when the model was exported.
"""

import argparse
import sys
from collections.abc import Sequence

import grpc
from tensorflow.core.framework import tensor_pb2, types_pb2  # comes with tensorflow-serving-api
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

SIGNATURE = "recommend"
TIMEOUT_S = 10.0


def words(values: Sequence[str]) -> tensor_pb2.TensorProto:
    """A vector of strings."""
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[value.encode() for value in values])
    proto.tensor_shape.dim.add().size = len(values)
    return proto


def numbers(values: Sequence[float]) -> tensor_pb2.TensorProto:
    """A vector of floats."""
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=values)
    proto.tensor_shape.dim.add().size = len(values)
    return proto


def scalar(value: int) -> tensor_pb2.TensorProto:
    """One whole number."""
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_INT64, int64_val=[value])
    proto.tensor_shape.SetInParent()
    return proto


def count_of_numbers(stub: prediction_service_pb2_grpc.PredictionServiceStub, model: str) -> int:
    """How many numbers about a viewer the model takes, as its metadata say."""
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = model
    answer = stub.GetModelMetadata(request, TIMEOUT_S)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    return int(signatures.signature_def[SIGNATURE].inputs["user_num"].tensor_shape.dim[0].size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask and print; exit code 1 with the server's own words when it refuses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--address", default="127.0.0.1:8500", help="host:port of gRPC")
    parser.add_argument("--model", default="ranker")
    parser.add_argument("--user-id", default="", help="empty: a viewer nobody knows")
    parser.add_argument("--language", default="")
    parser.add_argument("--content-type", default="MIXED", help="VIDEO, AUDIO or MIXED")
    parser.add_argument("--categories", nargs="*", default=[], help="the viewer's, the most started first")
    parser.add_argument("--liked", nargs="*", default=[], help="item ids, host ids for rooms, the newest first")
    parser.add_argument("--refused", nargs="*", default=[], help="likewise")
    parser.add_argument("--candidates", nargs="*", default=[], help="item ids; none: the live rooms the model knows")
    parser.add_argument("-k", type=int, default=10)
    given = parser.parse_args(arguments)

    with grpc.insecure_channel(given.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = given.model, SIGNATURE
        texts = {
            "user_id": [given.user_id], "user_language": [given.language], "user_content_type": [given.content_type],
            "user_categories": given.categories, "recent_positive": given.liked, "recent_negative": given.refused,
            "candidate_ids": given.candidates,
        }  # fmt: skip
        try:
            unknown = [float("nan")] * count_of_numbers(stub, given.model)
            for name, values in texts.items():
                request.inputs[name].CopyFrom(words(values))
            request.inputs["user_num"].CopyFrom(numbers(unknown))
            request.inputs["k"].CopyFrom(scalar(given.k))
            outputs = stub.Predict(request, TIMEOUT_S).outputs
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    for item_id, score in zip(outputs["item_ids"].string_val, outputs["scores"].float_val, strict=True):
        print(f"{score:.6f}\t{item_id.decode()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
