"""Wrong and late bytes from a model server, a store and a log on real sockets."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest

from events.errors import LogUnavailable
from events.schema import Event
from events.topics import IMPRESSIONS
from features.errors import StoreUnavailable
from features.redis import RedisStore
from features.redis_socket import PunctualSocket, within
from serving import wire
from serving.impressions import ImpressionConfig, ImpressionLog
from serving.metrics import Metrics
from serving.spool import Spool
from serving.tf_serving import TfServing
from tests.serving.small_world import SmallWorld, ask
from tests.serving.test_impressions import Broker, impression

HOST = "127.0.0.1"


def response(name: str, tensor: bytes) -> bytes:
    """A PredictResponse of one output."""
    return wire.field(1, wire.field(1, name.encode()) + wire.field(2, tensor))


def scores(array: np.ndarray) -> bytes:
    """A PredictResponse that a ranker could give."""
    return response("scores", wire.encode_tensor(array))


def shape_of(*sizes: int) -> bytes:
    return wire.field(2, b"".join(wire.field(2, b"\x08" + wire.varint(size)) for size in sizes))


WRONG = {
    "bytes that are no message": b"\xff\xfe\xfd garbage",
    "nothing at all": b"",
    "a message that ends in the middle": scores(np.ones((4, 3), np.float32))[:-5],
    "another output": response("logits", wire.encode_tensor(np.ones((4, 3), np.float32))),
    "a name that is no text": wire.field(1, wire.field(1, b"\xff\xfe") + wire.field(2, b"")),
    "too few rows": scores(np.ones((1, 3), np.float32)),
    "too many columns": scores(np.ones((500, 9), np.float32)),
    "one dimension": scores(np.ones(500, np.float32)),
    "numbers of 70 bits": response("scores", b"\x08\x09" + shape_of(1, 3) + (b"\x50" + b"\xff" * 9 + b"\x7f") * 3),
    "text": response("scores", b"\x08\x07" + shape_of(1) + wire.field(8, b"high")),
    "a shape that would fill the memory": response("scores", b"\x08\x01" + shape_of(1 << 40, 3) + wire.field(4, b"\0" * 4)),
    "a shape below nothing": response("scores", b"\x08\x01" + shape_of((1 << 64) - 4, 3) + wire.field(4, b"\0" * 4)),
    "values that do not fit their type": response("scores", b"\x08\x01" + shape_of(1, 3) + wire.field(4, b"\0" * 7)),
}  # fmt: skip


@contextmanager
def model_server(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A gRPC server that gives any request that answer."""

    class Always(grpc.GenericRpcHandler):  # type: ignore[type-arg]
        def service(self, _: object) -> grpc.RpcMethodHandler:  # type: ignore[type-arg]
            return grpc.unary_unary_rpc_method_handler(lambda body, _: answer(body))

    server = grpc.server(ThreadPoolExecutor(4), handlers=[Always()])
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        yield f"{HOST}:{port}"
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_answer_of_the_model_server_means_what_trends(kind: str, world: SmallWorld) -> None:
    world.release()
    with model_server(lambda _: WRONG[kind]) as address:
        models = TfServing(address)
        world.models = models  # type: ignore[assignment]
        feed = ask(world.proxy(), limit=5, diversity=0.0)
        models.close()
    assert feed.degraded == ("model_unavailable",)
    assert [item.item_id for item in feed.items][:2] == ["m0", "m1"]


def asked_for(body: bytes) -> int:
    """How many items a PredictRequest of the ranker is about; 1 for other requests."""
    for number, _, entry in wire.fields(memoryview(body)):
        held = {n: v for n, _, v in wire.fields(entry)} if number == 2 and isinstance(entry, memoryview) else {}
        name, tensor = held.get(1), held.get(2)
        if isinstance(name, memoryview) and isinstance(tensor, memoryview) and bytes(name) == b"item_key":
            return len(wire.decode_tensor(tensor))
    return 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_scores_of_the_right_shape_that_make_no_order_mean_what_trends(value: float, world: SmallWorld) -> None:
    world.release()
    with model_server(lambda body: scores(np.full((asked_for(body), 3), value, np.float32))) as address:
        models = TfServing(address)
        world.models = models  # type: ignore[assignment]
        feed = ask(world.proxy(), limit=5, diversity=0.0)
        models.close()
    good = value == 3e38  # absurd, but all of them are equal and finite
    assert feed.degraded == (("index_unavailable",) if good else ("model_unavailable",))
    assert len(feed.items) == 5


@contextmanager
def dripping(drop: bytes, every_s: float) -> Iterator[int]:
    """A server on that port whose answer to anything comes in drops and never ends."""
    listener, stop = socket.create_server((HOST, 0)), threading.Event()

    def serve(client: socket.socket) -> None:
        with client:
            client.recv(4096)
            try:
                client.sendall(b"$100000\r\n")
                while not stop.wait(every_s):
                    client.sendall(drop)
            except OSError:
                pass

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        listener.close()


def test_an_answer_of_the_store_in_drops_is_late_as_a_whole() -> None:
    with dripping(b"x", 0.02) as port:
        store = RedisStore(f"redis://{HOST}:{port}/0", timeout_s=0.2, altogether=True)
        begun = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"[Tt]imeout"):
            store.of_viewer("vera")
        assert time.monotonic() - begun < 20.0  # of the 2,000 s that the drops would take


def test_what_has_come_is_taken_although_the_thread_was_late_itself() -> None:
    ours, theirs = socket.socketpair()
    held = PunctualSocket.of(ours)
    held.settimeout(5.0)
    theirs.sendall(b"here")
    with held, theirs, within(0.0):
        assert held.recv(10) == b"here"
        with pytest.raises(TimeoutError):
            held.recv(10)


def test_outside_of_a_limit_a_socket_waits_as_long_as_its_own() -> None:
    ours, theirs = socket.socketpair()
    held = PunctualSocket.of(ours)
    held.settimeout(30.0)
    with within(0.0):
        pass
    threading.Timer(0.2, lambda: theirs.sendall(b"late")).start()
    with held, theirs:
        buffer = bytearray(10)
        assert held.recv_into(buffer) == 4


class SlowBroker(Broker):
    """A log that confirms nothing until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def send(self, event: Event) -> None:
        """Kept only once confirmed."""
        self.may.wait(60.0)
        super().send(event)

    def close(self) -> None:
        """Fails like a client whose last flush did."""
        raise LogUnavailable("it did not confirm messages")


def slow_log(broker: Broker, folder: Path) -> tuple[ImpressionLog, Spool]:
    spool = Spool(folder / "i.jsonl", topic=IMPRESSIONS, max_bytes=1 << 20)
    config = ImpressionConfig(patience_s=0.05, retry_s=0.0)
    return ImpressionLog(broker.connect, spool, metrics=Metrics(), config=config), spool


def test_what_the_log_does_not_take_in_time_is_on_disk_before_it_fails(tmp_path: Path) -> None:
    broker = SlowBroker()
    log, spool = slow_log(broker, tmp_path)
    log.put([impression(1)])
    log.step()
    log.put([impression(2)])
    log.step()
    assert [event.event_id for event in spool.take()[0]] == ["q:1", "q:2"]
    broker.may.set()
    until = time.monotonic() + 30.0
    while spool.size and time.monotonic() < until:
        log.step()
    assert set(broker.ids()) == {"q:1", "q:2"}


def test_a_client_that_fails_as_nobody_expected_costs_no_impression(tmp_path: Path) -> None:
    broker, failing = Broker(), [True]
    real = broker.flush

    def flush() -> None:
        if failing[0]:
            raise ZeroDivisionError
        real()

    broker.flush = flush  # type: ignore[method-assign]
    log, spool = slow_log(broker, tmp_path)
    log.put([impression(1)])
    log.step()
    assert "ZeroDivisionError" in log.trouble
    failing[0] = False
    log.step()
    log.step()
    assert (spool.size, log.trouble) == (0, "")
    assert set(broker.ids()) == {"q:1"}
