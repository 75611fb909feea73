"""docker-compose.yml against the code: there is no Docker where these tests run, so every word of it is compared instead."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from collector.metrics import ReportMetrics
from collector.report import Report
from events.log import Place
from events.topics import DEAD_LETTERS, TOPICS
from serving.metrics import Metrics
from settings import PREFIX, Settings
from stack import dagster, kafka, mlflow, model_server_part, redis
from stack.catalogue import catalogue
from stack.model_server.__main__ import parser

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DEFAULTS = Settings.model_construct()  # the defaults, whatever this environment says
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("livefeed")]


def setting_ports() -> set[int]:
    return {getattr(DEFAULTS, name) for name in Settings.model_fields if name.endswith("_port")}


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_every_part_of_the_stack_is_a_service() -> None:
    assert set(catalogue(DEFAULTS)) <= set(SERVICES)
    assert {"airflow", "prometheus", "grafana"} <= set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_every_livefeed_variable_is_a_setting(name: str) -> None:
    variables = {word for word in SERVICES[name]["environment"] if word.startswith(PREFIX)}
    assert variables
    assert variables <= {PREFIX + field.upper() for field in Settings.model_fields}


@pytest.mark.parametrize("name", ["collector", "proxy", "dagster", "dagster-daemon"])
def test_our_processes_run_the_commands_that_the_stack_runs(name: str) -> None:
    service, part = SERVICES[name], catalogue(DEFAULTS)[name]
    assert service["command"][0] == "python"
    assert service["command"][1:] == list(part.command[1:])


@pytest.mark.parametrize("name", ["collector", "proxy"])
def test_our_commands_exist(name: str) -> None:
    _, _, room, command = SERVICES[name]["command"]
    group = typer.main.get_command(importlib.import_module(f"{room}.__main__").app)
    assert command in group.commands  # type: ignore[attr-defined]


def test_ports_are_the_settings_defaults_or_are_said_and_published_on_loopback_only() -> None:
    said = set(COMPOSE["x-other-ports"].values())
    assert not said & setting_ports()
    for name, service in SERVICES.items():
        for port in service.get("ports", ()):
            address, outside, _ = port.split(":")
            assert address == "127.0.0.1", name
            assert int(outside) in setting_ports() | said, name


def test_what_shares_the_hosts_network_binds_to_loopback() -> None:
    """On the host's network a port is open to everyone unless its process binds to 127.0.0.1."""
    on_host = {name for name, service in SERVICES.items() if service.get("network_mode") == "host"}
    # collector and proxy bind to settings.host, which allows nothing else
    assert on_host == {*OURS, "prometheus", "grafana"}
    assert Settings.model_fields["host"].annotation.__args__ == ("127.0.0.1",)  # type: ignore[union-attr]
    other = COMPOSE["x-other-ports"]
    assert f"--web.listen-address=127.0.0.1:{other['prometheus']}" in SERVICES["prometheus"]["command"]
    grafana, airflow = SERVICES["grafana"]["environment"], SERVICES["airflow"]["environment"]
    assert (grafana["GF_SERVER_HTTP_ADDR"], int(grafana["GF_SERVER_HTTP_PORT"])) == ("127.0.0.1", other["grafana"])
    assert (airflow["AIRFLOW__API__HOST"], int(airflow["AIRFLOW__API__PORT"])) == ("127.0.0.1", other["airflow"])
    assert option(SERVICES["dagster"]["command"], "-h") == "127.0.0.1"


def test_published_ports_lead_to_the_ports_the_parts_listen_on() -> None:
    inner = {name: SERVICES[name]["ports"][0].split(":", 1)[1] for name in ("kafka", "redis", "model-server", "mlflow")}
    assert inner == {
        "kafka": f"{DEFAULTS.kafka_port}:{DEFAULTS.kafka_port}",  # a broker advertises the port it is reached at
        "redis": f"{DEFAULTS.redis_port}:6379",
        "model-server": f"{DEFAULTS.model_server_port}:8500",
        "mlflow": f"{DEFAULTS.mlflow_port}:5000",
    }
    assert option(SERVICES["mlflow"]["command"], "--port") == "5000"


def test_the_broker_has_the_properties_of_the_embedded_one() -> None:
    lines = kafka.properties(DEFAULTS, data=Path("/data")).splitlines()
    embedded = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    names = {name: name.removeprefix("KAFKA_").lower().replace("_", ".") for name in SERVICES["kafka"]["environment"]}
    here = {names[name]: value for name, value in SERVICES["kafka"]["environment"].items()}
    assert f"-Xmx{here.pop('heap.opts').removeprefix('-Xmx')}" == kafka.HEAP
    assert here.pop("listeners") == embedded.pop("listeners").replace("PLAINTEXT://127.0.0.1", "PLAINTEXT://0.0.0.0")
    assert here.pop("log.dirs") in SERVICES["kafka"]["volumes"][0]
    embedded.pop("log.dirs")
    assert here == embedded


def test_the_topics_are_ours_with_our_number_of_partitions() -> None:
    script = SERVICES["topics"]["command"][0]
    assert set(re.search(r"for topic in (.*?);", script).group(1).split()) == {*TOPICS, DEAD_LETTERS}  # type: ignore[union-attr]
    assert f"--partitions {DEFAULTS.topic_partitions} " in script


def test_redis_has_the_options_of_the_embedded_one() -> None:
    def options(words: list[str]) -> dict[str, str]:
        return dict(zip(words[1::2], words[2::2], strict=True))

    here, embedded = options(SERVICES["redis"]["command"]), options(list(redis.part(DEFAULTS).command))
    assert here.items() <= embedded.items()
    assert set(embedded) - set(here) == {"--bind", "--port", "--dir", "--daemonize"}


def test_the_model_server_gets_flags_that_ours_takes_too() -> None:
    words = SERVICES["model-server"]["command"]
    given = parser().parse_args(words)
    embedded = model_server_part.part(DEFAULTS).command
    ours = {word.split("=")[0] for word in embedded if word.startswith("--")}
    # The image sets the port; threads are this machine's; upstream has no third.
    own = {"--port", "--grpc_max_threads", "--open_port_before_models"}
    assert ours - {word.split("=")[0] for word in words} <= own
    assert given.allow_version_labels_for_unavailable_models is True
    assert [w for w in words if "poll" in w] == [w for w in embedded if "poll" in w]


def test_the_first_list_of_models_names_the_models_in_the_shared_folder(tmp_path: Path) -> None:
    from stack.model_server.config import parse

    models = parse((ROOT / "docker/models.config").read_text(), file="docker/models.config")
    model_server_part.write_first_config(tmp_path / "models.config")
    embedded = parse((tmp_path / "models.config").read_text(), file="models.config")
    assert [model.policy for model in models] == [model.policy for model in embedded]
    var = SERVICES["proxy"]["environment"]["LIVEFEED_VAR"]
    assert {(model.name, str(model.base_path)) for model in models} == {
        (name, f"{var}/models/{name}") for name in model_server_part.MODELS
    }
    script = SERVICES["prepare"]["command"][-1]
    assert all(f"{model.base_path}" in script for model in models)
    target = script.split()[-1]
    assert f"--model_config_file={target}" in SERVICES["model-server"]["command"]
    assert f"state:{var}:ro" in SERVICES["model-server"]["volumes"]


def test_mlflow_has_the_arguments_and_variables_of_the_embedded_one() -> None:
    part, service = mlflow.part(DEFAULTS), SERVICES["mlflow"]
    flags = [word for word in part.command if word.startswith("--")]
    assert [word for word in service["command"] if word.startswith("--")] == flags
    assert service["environment"] == dict(part.environment)


def test_images_are_of_the_versions_that_the_lock_pins() -> None:
    lock = (ROOT / "uv.lock").read_text()

    def locked(name: str) -> str:
        return re.search(rf'name = "{name}"\nversion = "([^"]+)"', lock).group(1)  # type: ignore[union-attr]

    assert SERVICES["mlflow"]["image"].endswith(f":v{locked('mlflow')}")
    assert SERVICES["model-server"]["image"] == f"tensorflow/serving:{locked('tensorflow-serving-api')}"
    broker = re.search(r"kafka_2\.13:([\d.]+)", (ROOT / "stack/jars.lock").read_text()).group(1)  # type: ignore[union-attr]
    assert SERVICES["kafka"]["image"] == SERVICES["topics"]["image"] == f"apache/kafka:{broker}"
    assert all(":" in service["image"] and "latest" not in service["image"] for service in SERVICES.values())


def test_dagster_runs_over_the_stacks_instance_file() -> None:
    mounted = yaml.safe_load((ROOT / "docker/dagster.yaml").read_text())
    assert mounted == yaml.safe_load(dagster.INSTANCE)
    for name in ("dagster", "dagster-daemon"):
        home = SERVICES[name]["environment"]["DAGSTER_HOME"]
        assert f"./docker/dagster.yaml:{home}/dagster.yaml:ro" in SERVICES[name]["volumes"]
        assert home == f"{SERVICES[name]['environment']['LIVEFEED_VAR']}/dagster"


def test_files_that_are_mounted_exist_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], volume


def test_what_a_service_waits_for_exists() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in SERVICES, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], needed
            if how["condition"] == "service_completed_successfully":
                assert needed in {"topics", "prepare"}


def test_the_image_has_its_targets_folders_and_the_makefiles_uv() -> None:
    text = (ROOT / "docker/Dockerfile").read_text()
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} <= set(
        re.findall(r"^FROM \S+ AS (\w+)$", text, re.MULTILINE)
    )
    for name in OURS:
        for variable in ("LIVEFEED_VAR", "LIVEFEED_JARS"):
            assert f"{variable}={SERVICES[name]['environment'][variable]}" in text
    uv = re.search(r"astral-sh/uv:([\d.]+) ", text).group(1)  # type: ignore[union-attr]
    assert f"uv=={uv}" in (ROOT / "Makefile").read_text()
    assert SERVICES["airflow"]["environment"]["AIRFLOW__CORE__DAGS_FOLDER"] == "/livefeed/app/dags"
    assert "WORKDIR /livefeed/app" in text


def exported() -> set[str]:
    """Every sample name of the collector's and the proxy's metrics pages, with one value in each."""
    report = Report(lag={Place("profiles", 0): 1}, watermark=1.0)
    report.outcomes["profiles", "stored"] += 1
    registry = CollectorRegistry()
    registry.register(ReportMetrics(report))
    proxy = Metrics()
    for value in vars(proxy).values():
        if getattr(value, "_labelnames", ()):
            value.labels(*["x"] * len(value._labelnames))
    text = generate_latest(registry).decode() + proxy.text().decode()
    return set(re.findall(r"^(\w+)(?:\{| )", text, re.MULTILINE))


def test_prometheus_asks_the_proxy_and_the_collector_where_they_answer() -> None:
    body = yaml.safe_load((ROOT / "docker/prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in body["scrape_configs"]}
    assert targets == {
        "proxy": [f"{DEFAULTS.host}:{DEFAULTS.proxy_port}"],
        "collector": [f"{DEFAULTS.host}:{DEFAULTS.metrics_port}"],
    }
    assert {job["metrics_path"] for job in body["scrape_configs"]} == {"/metrics"}


def test_the_dashboard_asks_only_for_metrics_that_are_exported() -> None:
    names = exported()
    assert "livefeed_feed_requests_total" in names
    for file in (ROOT / "docker/grafana/dashboards").glob("*.json"):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                asked = set(re.findall(r"livefeed_\w+", target["expr"]))
                assert asked, panel["title"]
                assert asked <= names, panel["title"]


def test_grafana_reads_the_prometheus_that_runs_and_the_mounted_dashboards() -> None:
    folder = ROOT / "docker/grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    assert source["url"] == f"http://127.0.0.1:{COMPOSE['x-other-ports']['prometheus']}"
    board = json.loads((ROOT / "docker/grafana/dashboards/livefeed.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
    path = yaml.safe_load((folder / "dashboards/livefeed.yml").read_text())["providers"][0]["options"]["path"]
    assert any(volume.endswith(f":{path}:ro") for volume in SERVICES["grafana"]["volumes"])
