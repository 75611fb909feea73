"""The real parts: data survive down and up, topics are made, published models are served, the command speaks."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
import redis
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from events.topics import DEAD_LETTERS, ENGAGEMENT, TOPICS
from settings import Settings
from stack import Parts
from stack.dagster import check_definitions
from stack.errors import PartFailed
from stack.part import ROOT, listens
from tests.stack.saved_models import write_line
from tests.stack.test_model_server import Client, values
from tests.stack.test_parts import strays

pytestmark = pytest.mark.parts
silent: Callable[[str], None] = lambda _: None  # noqa: E731


def write_records(settings: Settings, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=settings.kafka)
    for number in range(count):
        producer.send(ENGAGEMENT, key=b"u", value=str(number).encode())
    producer.flush()
    producer.close()


def read_records(settings: Settings) -> list[bytes]:
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka, auto_offset_reset="earliest", consumer_timeout_ms=3000)
    consumer.assign([TopicPartition(ENGAGEMENT, number) for number in range(settings.topic_partitions)])
    found = [record.value for record in consumer]
    consumer.close()
    return found


def test_kafka_and_redis_keep_their_data_over_down_and_up(own_settings: Settings) -> None:
    with Parts(own_settings) as stack:
        pids = {row.name: row.pid for row in stack.up(["kafka", "redis"], report=silent)}
        admin = KafkaAdminClient(bootstrap_servers=own_settings.kafka)
        described = {row["name"]: len(row["partitions"]) for row in admin.describe_topics(sorted(TOPICS))}
        assert described == dict.fromkeys(TOPICS, own_settings.topic_partitions)
        assert DEAD_LETTERS in admin.list_topics()
        admin.close()
        write_records(own_settings, 100)
        redis.Redis.from_url(own_settings.redis).hset("room:1", "viewers", 7)
        assert {row.name: row.pid for row in stack.up(["kafka", "redis"], report=silent)} == pids

        stack.down(report=silent)
        assert strays([pid for pid in pids.values() if pid]) == []
        assert not listens(own_settings.host, own_settings.kafka_port)

        stack.up(["kafka", "redis"], report=silent)
        assert read_records(own_settings) == [str(number).encode() for number in range(100)]
        assert redis.Redis.from_url(own_settings.redis).hget("room:1", "viewers") == b"7"


def first_answer(ask: Callable[[], list[float]], *, within_s: float) -> list[float]:
    """The first answer that is not NOT_FOUND."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except grpc.RpcError as error:
            assert "Servable not found for request: Latest(ranker)" in str(error)
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_the_model_server_waits_for_a_model_and_serves_it_once_published(own_settings: Settings) -> None:
    with Parts(own_settings) as stack:
        (status,) = stack.up(["model-server"], report=silent)
        assert (status.condition, status.ports) == ("running", (own_settings.model_server_port,))
        client = Client(own_settings.model_server_port)
        write_line(own_settings.models / "ranker", 1)
        request = {"x": np.array([2.0], np.float32)}
        answer = first_answer(lambda: values(client.predict(request, model="ranker"), "y"), within_s=60.0)
        assert answer == [3.0]
        client.channel.close()


def stack_command(settings: Settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **settings.environment(), **more, "COLUMNS": "250"}
    command = [sys.executable, "-m", "stack", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_starts_shows_and_stops(own_settings: Settings) -> None:
    try:
        up = stack_command(own_settings, "up", "--only", "redis")
        assert (up.returncode, up.stderr) == (0, "")
        assert "redis: ready" in up.stdout
        assert f"redis://127.0.0.1:{own_settings.redis_port}/0" in up.stdout
        status = stack_command(own_settings, "status").stdout
        assert [line for line in status.splitlines() if "redis" in line and "running" in line]
        assert [line for line in status.splitlines() if "kafka" in line and "stopped" in line]
    finally:
        down = stack_command(own_settings, "down")
    assert (down.returncode, down.stdout.strip()) == (0, "redis: stopped")
    assert not listens("127.0.0.1", own_settings.redis_port)


@pytest.mark.parametrize(
    ("words", "more", "sentence"),
    [
        (["up", "--only", "zookeeper"], {}, "unknown part 'zookeeper'; allowed are kafka, redis"),
        (["status"], {"LIVEFEED_REDIS_PORT": "0"}, "LIVEFEED_REDIS_PORT='0' is not allowed"),
        (["up", "--only", "kafka"], {"JAVA_HOME": "/nowhere"}, "Java 17 or newer is needed but JAVA_HOME holds no"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_exit_code_1(
    own_settings: Settings, words: list[str], more: dict[str, str], sentence: str
) -> None:
    done = stack_command(own_settings, *words, **more)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_web_page_that_does_not_answer_is_an_error_with_its_log(tmp_path: Path, own_settings: Settings) -> None:
    with pytest.raises(
        PartFailed, match=r"does not say whether dagster_project.definitions loaded: see .*dagster\.log"
    ):
        check_definitions(f"http://127.0.0.1:{own_settings.dagster_port}", log=tmp_path / "dagster.log")
