"""The gRPC client against a small server that answers as it is told."""

from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import numpy as np
import pytest

from serving import wire
from serving.errors import ModelRefused, ModelUnavailable
from serving.tf_serving import TfServing

Behaviour = Callable[[bytes, grpc.ServicerContext], bytes]
USER = {"user_id": np.array([4], np.int64)}


class Server:
    """Answers Predict by `behaviour`."""

    def __init__(self) -> None:
        self.behaviour: Behaviour = lambda *_: b""
        handler = grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService",
            {"Predict": grpc.unary_unary_rpc_method_handler(lambda data, context: self.behaviour(data, context))},
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        self.server.add_generic_rpc_handlers((handler,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.stop(0)


def answer(name: str, array: np.ndarray) -> bytes:
    return wire.field(1, wire.field(1, name.encode()) + wire.field(2, wire.encode_tensor(array)))


def test_an_embedding_comes_back(server: Server) -> None:
    server.behaviour = lambda *_: answer("embedding", np.ones((1, 4), np.float32))
    assert TfServing(server.address).embed_user(3, USER, timeout_s=2.0).tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.NOT_FOUND, ModelUnavailable),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ModelUnavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, ModelRefused),
        (grpc.StatusCode.FAILED_PRECONDITION, ModelRefused),
    ],
)
def test_each_status_is_one_error_that_says_what_was_asked(
    server: Server, code: grpc.StatusCode, error: type[Exception]
) -> None:
    server.behaviour = lambda _, context: context.abort(code, "the server's own words\nand more")
    with pytest.raises(
        error, match=rf"^model server {server.address}: two_tower/3 embed_user: {code.name}: the server's own words$"
    ):
        TfServing(server.address).embed_user(3, USER, timeout_s=2.0)


def test_a_slow_server_is_unavailable_within_the_deadline(server: Server) -> None:
    import time

    server.behaviour = lambda *_: time.sleep(1.0) or b""
    start = time.perf_counter()
    with pytest.raises(ModelUnavailable, match="DEADLINE_EXCEEDED"):
        TfServing(server.address).embed_user(3, USER, timeout_s=0.05)
    assert time.perf_counter() - start < 0.8


def test_no_server_is_unavailable() -> None:
    with pytest.raises(ModelUnavailable, match="UNAVAILABLE"):
        TfServing("127.0.0.1:1").status("ranker", timeout_s=2.0)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xff",
        answer("other", np.ones((1, 4), np.float32)),
        answer("embedding", np.full((1, 4), np.nan, np.float32)),
    ],
)
def test_an_answer_that_is_no_embedding_is_refused(server: Server, body: bytes) -> None:
    server.behaviour = lambda *_: body
    with pytest.raises(ModelRefused):
        TfServing(server.address).embed_user(3, USER, timeout_s=2.0)
