"""Where the writer puts a key, against Kafka's own partitioner."""

from typing import NamedTuple

import pytest
from kafka.partitioner.default import DefaultPartitioner

from events.kafka import partition_of


class Cluster(NamedTuple):
    """What the partitioner asks of a cluster's metadata."""

    count: int

    def topics(self) -> set[str]:
        return {"t"}

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.count))

    def available_partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.count))


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_key_goes_where_the_clients_partitioner_would_put_it(count: int) -> None:
    cluster, partitioner = Cluster(count), DefaultPartitioner()
    keys = [b"", b"u", "жанна".encode(), *(f"viewer-{n}".encode() for n in range(200))]
    wanted = [partitioner.partition("t", key, key, b"", b"", cluster) for key in keys]
    assert [partition_of(key, set(range(count))) for key in keys] == wanted
    assert len(set(wanted)) == count


def test_of_a_topic_whose_partitions_are_not_known_the_client_decides() -> None:
    assert partition_of(b"u", None) is None
