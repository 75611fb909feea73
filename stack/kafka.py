"""Apache Kafka as one KRaft node (broker and controller in one JVM) on loopback, with the platform's topics."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from events.topics import DEAD_LETTERS, TOPICS
from settings import Settings
from stack.errors import PartFailed
from stack.jars import Report, kafka_jars, silent
from stack.java import find_java, java_command
from stack.part import Part, listens

HEAP = "-Xmx256m"
FORMAT_TIMEOUT_S = 120.0
TOPICS_TIMEOUT_MS = 30_000


def part(settings: Settings, *, report: Report = silent) -> Part:
    """The broker; its archives are fetched when it is about to start."""
    home = settings.var / "kafka"
    log = settings.logs / "kafka.log"
    options = (HEAP, "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
    return Part(
        name="kafka",
        command=(
            java_command(),
            *options,
            "-cp",
            f"{settings.jars}/kafka/*",
            "kafka.Kafka",
            str(home / "server.properties"),
        ),
        log=log,
        ports=(settings.kafka_port, settings.kafka_controller_port),
        ready=lambda: _answers(settings),
        prepare=lambda: _prepare(settings, home=home, log=log, report=report),
        settle=lambda: create_topics(f"{settings.host}:{settings.kafka_port}", partitions=settings.topic_partitions),
        look=f"{settings.host}:{settings.kafka_port}",
    )


def properties(settings: Settings, *, data: Path) -> str:
    """The broker's configuration file."""
    host, port, controller = settings.host, settings.kafka_port, settings.kafka_controller_port
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
num.partitions={settings.topic_partitions}
# Events carry their own time; Kafka's stamp is append time, else retention would delete replays of old data at once.
log.message.timestamp.type=LogAppendTime
# The default of 128 MB does not fit into this heap.
log.cleaner.dedupe.buffer.size=8388608
# One node: the defaults ask for three replicas and fifty partitions of each internal topic.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A broker that was killed may come back only when its old session is over: 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""


def create_topics(bootstrap: str, *, partitions: int) -> None:
    """Create the platform's topics that are not there yet; existing ones are left as they are."""
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=TOPICS_TIMEOUT_MS)
        try:
            missing = {*TOPICS, DEAD_LETTERS} - set(admin.list_topics())
            if missing:
                admin.create_topics(
                    {name: {"num_partitions": partitions, "replication_factor": 1} for name in sorted(missing)},
                    timeout_ms=TOPICS_TIMEOUT_MS,
                )
        finally:
            admin.close()
    except KafkaError as error:
        raise PartFailed(f"kafka at {bootstrap} answers but its topics could not be created: {error}") from None


def _answers(settings: Settings) -> bool:
    return listens(settings.host, settings.kafka_port) and listens(settings.host, settings.kafka_controller_port)


def _prepare(settings: Settings, *, home: Path, log: Path, report: Report) -> None:
    """Archives, configuration, and the format of an empty data folder; an old one is kept."""
    jars = kafka_jars(settings.jars, report=report)
    data = home / "data"
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "server.properties"
    configuration.write_text(properties(settings, data=data))
    if (data / "meta.properties").exists():
        return
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    command = [str(find_java()), HEAP, "-cp", ":".join(map(str, jars)), "kafka.tools.StorageTool", "format"]
    with log.open("ab") as out:
        done = subprocess.run(
            [*command, "-t", cluster, "-c", str(configuration)],
            stdout=out, stderr=out, timeout=FORMAT_TIMEOUT_S, check=False, start_new_session=True,
        )  # fmt: skip
    if done.returncode:
        raise PartFailed(f"kafka could not format its data folder {data} (exit code {done.returncode}): see {log}")
