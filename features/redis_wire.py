"""Where Redis commands go: to one server, or on a cluster to the primaries that hold their keys, all of them at once.

A command names one key, so every command is legal on a cluster. Commands go out together and answers are read together: one
round trip, however many servers there are. A key that has moved is asked for where it is now.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    MovedError,
    NoScriptError,
    RedisClusterException,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.retry import Retry

from features.errors import StoreUnavailable
from features.redis_socket import PunctualConnection, within

CLUSTER_SCHEME = "redis+cluster://"
PIPELINE = 1000  # commands a round trip and server: bounds the server's reply buffer
REDIRECTIONS = 3  # attempts to follow keys that move between servers
T = TypeVar("T")
Answer = Any


class Command(NamedTuple):
    """One command; `key` is among `words` and decides where it goes."""

    key: str
    words: tuple[str | bytes | int | float, ...]


class Script:
    """A Lua script by its hash; a server that does not know it (a new one, one started again) is told."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def on(self, keys: Sequence[str], *words: str | bytes | int | float) -> Command:
        """A call over keys of one slot (on a single server: any keys)."""
        return Command(keys[0], ("EVALSHA", self.sha, len(keys), *keys, *words))


class Wire:
    """Connections to a Redis or a Redis Cluster; every failure to answer within `timeout_s` is a StoreUnavailable.

    The limit holds for each wait; with `altogether` for a whole exchange, so that answers that come in drops are late too.
    """

    def __init__(self, url: str, *, timeout_s: float, scripts: Sequence[Script], altogether: bool = False) -> None:
        self._url, self._scripts = url, scripts
        self._limit_s = timeout_s if altogether else None
        # No retry inside the client: the caller knows how long it may wait.
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # answers are read as they come: their form must not depend on the client's default
            "driver_info": None,  # no greeting: two round trips a connection that a request would wait for
        }
        if altogether:
            self._options["connection_class"] = PunctualConnection
        self._lock = threading.Lock()
        self._single: Any = None
        self._cluster: Any = None
        self._stale = False  # the map of the cluster: a server did not answer or a key had moved

    def ask(self, commands: Iterable[Command]) -> list[Answer]:
        """The answers in the order of the commands; the first error reply is raised."""
        every = list(commands)
        with self._translated(), within(self._limit_s):
            out: list[Answer] = []
            for chunk in chunks(every, PIPELINE):
                out.extend(self._exchange(chunk))
            for answer in out:
                if isinstance(answer, Exception):
                    raise answer
            return out

    def one(self, key: str, *words: str | bytes | int | float) -> Answer:
        """The answer to `words`, a command about `key`."""
        return self.ask([Command(key, words)])[0]

    def grouped(self, keys: Iterable[str], size: int) -> Iterator[list[str]]:
        """Keys that one command may name together, at most `size`: of one slot on a cluster, any on a single server."""
        if not self.is_cluster:
            yield from chunks(list(keys), size)
            return
        slots: dict[int, list[str]] = {}
        for key in keys:
            slots.setdefault(key_slot(key.encode()), []).append(key)
        for together in slots.values():
            yield from chunks(together, size)

    def each_server(self, question: Callable[[Any], T]) -> dict[str, T]:
        """What every server that holds keys answers to `question`, by its name."""
        with self._translated():
            return {name: question(client) for name, client in self._servers().items()}

    def servers(self) -> set[str]:
        """The names of the servers that hold keys."""
        with self._translated():
            return set(self._servers())

    def name_of(self, key: str) -> str:
        """The server that holds a key, as `each_server` names it."""
        with self._translated():
            if not self.is_cluster:
                return self._url
            return str(self._node_of(key).name)

    @property
    def is_cluster(self) -> bool:
        """Whether the address is a cluster's: it says so, or the server there does."""
        if self._single is not None:  # set last, and for good
            return self._cluster is not None
        with self._translated(), self._lock:
            if self._single is None:
                self._connect()
        return self._cluster is not None

    def _refresh(self) -> None:
        """Ask for the map of the cluster again after a sign that it is old."""
        with self._lock:
            if self._stale:
                self._cluster.nodes_manager.initialize()
                self._stale = False

    def close(self) -> None:
        """Let the connections go."""
        for client in (self._single, self._cluster):
            if client is not None:
                client.close()

    def _connect(self) -> None:
        named = self._url.startswith(CLUSTER_SCHEME)
        url = self._url.replace(CLUSTER_SCHEME, "redis://", 1)
        single = redis.Redis.from_url(url, **self._options)
        if named or single.info("cluster").get("cluster_enabled"):
            self._cluster = RedisCluster.from_url(url, **self._options)
        self._single = single

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, RedisClusterException, OSError) as error:
            self._stale = self._cluster is not None
            raise StoreUnavailable(f"the online store at {self._url} did not answer: {error}") from None

    def _servers(self) -> Mapping[str, Any]:
        if not self.is_cluster:
            return {self._url: self._single}
        self._refresh()
        return {node.name: self._cluster.get_redis_connection(node) for node in self._cluster.get_primaries()}

    def _exchange(self, commands: Sequence[Command]) -> list[Answer]:
        answers = self._round(commands)
        if again := [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]:
            for client in self._servers().values():
                for script in self._scripts:
                    client.script_load(script.text)
            for n, answer in zip(again, self._round([commands[n] for n in again]), strict=True):
                answers[n] = answer
        return answers

    def _round(self, commands: Sequence[Command]) -> list[Answer]:
        if not self.is_cluster:
            return _talk([(self._single.connection_pool, commands)])[0]
        answers = self._spread(commands)
        for _ in range(REDIRECTIONS):
            again = [n for n, answer in enumerate(answers) if isinstance(answer, MovedError | TryAgainError)]
            if not again:
                break
            self._stale = True  # asks for the map of the cluster before the next attempt
            for n, answer in zip(again, self._spread([commands[n] for n in again]), strict=True):
                answers[n] = answer
        return answers

    def _spread(self, commands: Sequence[Command]) -> list[Answer]:
        """One round trip to every primary that a command concerns; a key on its way elsewhere is asked for there."""
        self._refresh()
        by_node, nodes = dict[str, list[int]](), dict[str, Any]()
        for n, command in enumerate(commands):
            node = self._node_of(command.key)
            nodes[node.name] = node
            by_node.setdefault(node.name, []).append(n)
        pools = [self._pool(nodes[name]) for name in by_node]
        talked = _talk([(pool, [commands[n] for n in ns]) for pool, ns in zip(pools, by_node.values(), strict=True)])
        answers: list[Answer] = [None] * len(commands)
        for numbers, found in zip(by_node.values(), talked, strict=True):
            for n, answer in zip(numbers, found, strict=True):
                answers[n] = self._asked(commands[n], answer)
        return answers

    def _asked(self, command: Command, answer: Answer) -> Answer:
        if not isinstance(answer, AskError) or isinstance(answer, MovedError):
            return answer
        there = self._cluster.get_node(host=answer.host, port=answer.port)
        if there is None:
            return TryAgainError("the key moves to a server that is not on the map yet")
        return _talk([(self._pool(there), [Command(command.key, ("ASKING",)), command])])[0][1]

    def _node_of(self, key: str) -> Any:
        slot = key_slot(key.encode())
        held_by = self._cluster.nodes_manager.slots_cache.get(slot)
        if not held_by:
            raise SlotNotCoveredError(f"no server of the cluster holds slot {slot}")
        return held_by[0]

    def _pool(self, node: Any) -> Any:
        return self._cluster.get_redis_connection(node).connection_pool


def _talk(batches: Sequence[tuple[Any, Sequence[Command]]]) -> list[list[Answer]]:
    """Send every batch to its server, then read every answer; error replies come back as exceptions."""
    held: list[tuple[Any, Any]] = []
    try:
        for pool, commands in batches:
            connection = pool.get_connection()
            held.append((pool, connection))
            connection.send_packed_command(connection.pack_commands([command.words for command in commands]))
        return [
            [_reply(connection) for _ in commands] for (_, connection), (_, commands) in zip(held, batches, strict=True)
        ]
    except BaseException:
        for _, connection in held:
            connection.disconnect()  # answers may be on their way: nobody else may read them as theirs
        raise
    finally:
        for pool, connection in held:
            pool.release(connection)


def _reply(connection: Any) -> Answer:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def chunks(rows: Sequence[T], size: int) -> Iterator[list[T]]:
    """Rows in lists of at most `size`."""
    for start in range(0, len(rows), size):
        yield list(rows[start : start + size])
