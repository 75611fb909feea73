"""Models made of numpy and an HTTP client, for tests of the REST port."""

import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2 as t
from tensorflow.core.protobuf import meta_graph_pb2

from stack.model_server.config import ModelConfig, Policy
from stack.model_server.errors import ServingError
from stack.model_server.table import ModelTable

Json = Any


class Fake:
    """A model of numpy: y = x / 2 + version, and signatures for the odd cases."""

    def __init__(self, path: Path, name: str, version: int) -> None:
        if name == "broken":
            raise ServingError.invalid("not a graph")
        self.name = name
        self.version = version
        self.before: Callable[[], object] = lambda: None
        self.timeouts: list[float | None] = []
        self.signatures = {
            "serving_default": signature({"x": t.DT_FLOAT}, {"y": t.DT_FLOAT}),
            "two": signature({"a": t.DT_FLOAT, "b": t.DT_INT64}, {"sum": t.DT_FLOAT, "id_bytes": t.DT_STRING}),
            "scalar": signature({"x": t.DT_FLOAT}, {"s": t.DT_FLOAT}),
            "nothing": signature({}, {"y": t.DT_FLOAT}),
            "regress": signature({"inputs": t.DT_STRING}, {"outputs": t.DT_FLOAT}),
            "classify": signature({"inputs": t.DT_STRING}, {"classes": t.DT_STRING, "scores": t.DT_FLOAT}),
        }

    def signature(self, name: str) -> Any:
        return self.signatures[name]

    def run(
        self, name: str, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Any]:
        inputs, outputs = self.signatures[name].inputs, self.signatures[name].outputs
        named = {inputs[key].name: value for key, value in feeds.items()}
        return self.run_tensors(named, [outputs[key].name for key in fetches], timeout_s=timeout_s)

    def run_tensors(
        self, feeds: Mapping[str, Any], fetches: Sequence[str], *, timeout_s: float | None = None
    ) -> list[Any]:
        self.timeouts.append(timeout_s)
        self.before()
        rows = np.atleast_1d(next(iter(feeds.values()))).shape[0]
        known = {
            "y:0": lambda: feeds["x:0"] / np.float32(2) + np.float32(self.version),
            "sum:0": lambda: feeds["a:0"] + feeds["b:0"].astype(np.float32),
            "id_bytes:0": lambda: np.array([b"\x00\xff"] * rows, object),
            "s:0": lambda: np.float32(7),
            "outputs:0": lambda: np.array([3.0] * rows, np.float32),
            "classes:0": lambda: np.array([[b"no", b"yes"]] * rows, object),
            "scores:0": lambda: np.array([[0.25, 0.75]] * rows, np.float32),
        }
        return [known[name]() for name in fetches]

    def hold(self) -> bool:
        return True

    def let_go(self) -> None:
        """Nothing is held."""

    def close(self, *, wait_s: float | None = None) -> bool:
        return True


def signature(inputs: dict[str, int], outputs: dict[str, int]) -> Any:
    definition = meta_graph_pb2.SignatureDef(method_name="tensorflow/serving/predict")
    for infos, rows in ((definition.inputs, inputs), (definition.outputs, outputs)):
        for name, dtype in rows.items():
            infos[name].name, infos[name].dtype = f"{name}:0", dtype
            infos[name].tensor_shape.dim.add().size = -1
    return definition


class Api:
    """A client of one REST server; keeps its connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(
        self, method: str, path: str, *, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, dict[str, str]]:
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request(method, path, raw, dict(headers or {}))
        response = self.connection.getresponse()
        return response.status, response.read().decode(), {k.lower(): v for k, v in response.getheaders()}

    def get(self, path: str) -> tuple[int, Json]:
        status, text, _ = self.ask("GET", path)
        return status, json.loads(text)

    def post(self, path: str, body: Any) -> tuple[int, Json]:
        status, text, _ = self.ask("POST", path, body=body)
        return status, json.loads(text)


def fake_table(root: Path, loaded: dict[tuple[str, int], Fake]) -> ModelTable:
    """`line` in versions 3 (stable) and 4, `a/b` in version 1, `broken`, which does not load; `loaded` gets them."""
    for folder in ("line/3", "line/4", "slash/1", "broken/1"):
        (root / folder).mkdir(parents=True)

    def load(path: Path, name: str, version: int) -> Any:
        return loaded.setdefault((name, version), Fake(path, name, version))

    table = ModelTable(load=load, retries=0, labels_before_load=True)
    table.configure(
        [
            ModelConfig("line", root / "line", Policy(latest=2), {"stable": 3, "new one": 4}),
            ModelConfig("a/b", root / "slash"),
            ModelConfig("broken", root / "broken"),
        ]
    )
    table.poll()
    assert table.serves("line")
    return table


@contextmanager
def doing(model: Fake, work: Callable[[], object]) -> Iterator[None]:
    """Have the model do this before each run, raise for instance."""
    model.before = work
    try:
        yield
    finally:
        model.before = lambda: None


def failing(model: Fake, error: Exception) -> Any:
    """Have every run of the model fail."""

    def fail() -> None:
        raise error

    return doing(model, fail)
