"""Redis, alone and as a cluster of three, for the stores' contract."""

from collections.abc import Iterator

import pytest

from tests.redis_servers import Cluster, Server


@pytest.fixture(scope="module")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    three = Cluster(tmp_path_factory.mktemp("cluster")).start()
    yield three
    three.stop()
