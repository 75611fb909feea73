"""Metrics under TensorFlow Serving's names, and the configuration texts that the pip package has no messages for."""

import pytest

from stack.model_server import protos
from stack.model_server.errors import ServingError
from stack.model_server.prometheus import MOST_SERIES, PrometheusObserver, exponential

Q = ":tensorflow:serving:"


def page(observer: PrometheusObserver) -> list[str]:
    text = observer.page()
    assert text.endswith("\n")
    return text.splitlines()


def test_an_idle_server_shows_every_metric_by_name_and_no_value() -> None:
    assert page(PrometheusObserver()) == [
        f"# TYPE {Q}batching_session:queuing_latency histogram",
        f"# TYPE {Q}model_warmup_latency histogram",
        f"# TYPE {Q}request_count counter",
        f"# TYPE {Q}request_example_count_total counter",
        f"# TYPE {Q}request_example_counts histogram",
        f"# TYPE {Q}request_latency histogram",
        f"# TYPE {Q}request_log_count counter",
        f"# TYPE {Q}runtime_latency histogram",
    ]


def test_a_fine_request_is_counted_and_timed_in_microseconds() -> None:
    observer = PrometheusObserver()
    observer.request("line", "Predict", entrypoint="GRPC", status="OK", seconds=0.000_02)
    lines = page(observer)
    labels = 'model_name="line",API="Predict",entrypoint="GRPC"'
    assert f'{Q}request_count{{model_name="line",status="OK"}} 1' in lines
    assert f'{Q}request_latency_bucket{{{labels},le="18"}} 0' in lines
    assert f'{Q}request_latency_bucket{{{labels},le="32.4"}} 1' in lines
    assert f'{Q}request_latency_bucket{{{labels},le="+Inf"}} 1' in lines
    assert f"{Q}request_latency_sum{{{labels}}} 20" in lines
    assert f"{Q}request_latency_count{{{labels}}} 1" in lines


def test_a_failed_request_is_counted_by_its_status_and_not_timed() -> None:
    observer = PrometheusObserver()
    observer.request("line", "Predict", entrypoint="REST", status="NOT_FOUND", seconds=1.0)
    lines = page(observer)
    assert f'{Q}request_count{{model_name="line",status="NOT_FOUND"}} 1' in lines
    assert not any("request_latency_" in line for line in lines)


def test_latency_has_thirty_three_limits_as_dashboards_know_them() -> None:
    observer = PrometheusObserver()
    observer.runtime("line", "Predict", runtime="TF1", seconds=0)
    limits = [line.split('le="')[1].split('"')[0] for line in page(observer) if "_bucket" in line]
    assert len(limits) == 34
    # 10, then 1.8 times as much each; 708235 is what public dashboards of the real server filter by.
    assert (limits[:4], limits[19], limits[-1]) == (["10", "18", "32.4", "58.32"], "708235", "+Inf")


def test_a_value_on_a_limit_counts_above_it() -> None:
    observer = PrometheusObserver()
    observer.runtime("line", "Predict", runtime="TF1", seconds=10e-6)
    counts = [line.split(" ")[1] for line in page(observer) if "_bucket" in line]
    assert counts[:2] == ["0", "1"]


def test_limits_grow_by_their_factor() -> None:
    assert exponential(1, 2, count=4) == (1, 2, 4, 8)


def test_examples_are_counted_by_request_and_in_total() -> None:
    observer = PrometheusObserver()
    for examples in (2, 3, 0):
        observer.request("line", "Classify", entrypoint="GRPC", status="OK", seconds=0.1, examples=examples)
    lines = page(observer)
    assert f'{Q}request_example_count_total{{model="line"}} 5' in lines
    assert f'{Q}request_example_counts_count{{model="line"}} 2' in lines
    assert f'{Q}request_example_counts_bucket{{model="line",le="16384"}} 2' in lines


def test_warm_ups_and_waits_in_batching_queues_are_timed() -> None:
    observer = PrometheusObserver()
    observer.warmup("/models/line/3", "OK", seconds=0.000_05)
    observer.queued("", 0.000_15)
    lines = page(observer)
    assert f'{Q}model_warmup_latency_sum{{model_path="/models/line/3",status="OK"}} 50' in lines
    assert f'{Q}batching_session:queuing_latency_bucket{{thread_pool_name="",le="144"}} 0' in lines
    assert f'{Q}batching_session:queuing_latency_bucket{{thread_pool_name="",le="172.8"}} 1' in lines


def test_quotes_backslashes_and_line_ends_in_names_are_escaped() -> None:
    observer = PrometheusObserver()
    observer.request('a"b\\c\nd', "Predict", entrypoint="GRPC", status="UNKNOWN", seconds=0)
    assert f'{Q}request_count{{model_name="a\\"b\\\\c\\nd",status="UNKNOWN"}} 1' in page(observer)


def test_a_client_that_invents_models_fills_one_series() -> None:
    observer = PrometheusObserver()
    for number in range(MOST_SERIES + 5):
        observer.request(f"m{number}", "Predict", entrypoint="REST", status="NOT_FOUND", seconds=0)
    lines = [line for line in page(observer) if line.startswith(f"{Q}request_count")]
    assert len(lines) == MOST_SERIES + 1
    assert f'{Q}request_count{{model_name="(others)",status="(others)"}} 5' in lines


def test_prometheus_reads_the_page_as_its_text_format() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    observer = PrometheusObserver()
    observer.request("line", "Predict", entrypoint="GRPC", status="OK", seconds=0.1)
    families = {family.name: family for family in text_string_to_metric_families(observer.page())}
    latency = families[f"{Q}request_latency"]
    assert latency.type == "histogram"
    assert {sample.labels["model_name"] for sample in latency.samples} == {"line"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", protos.Monitoring(False, "/monitoring/prometheus/metrics")),
        ("prometheus_config { enable: true }", protos.Monitoring(True, "/monitoring/prometheus/metrics")),
        ('prometheus_config: { enable: true path: "/m" }', protos.Monitoring(True, "/m")),
    ],
)
def test_the_monitoring_text_says_whether_and_where(text: str, expected: protos.Monitoring) -> None:
    assert protos.monitoring(text) == expected


def test_the_ssl_text_holds_keys_over_several_lines() -> None:
    text = 'server_key: "K\\n1"\nserver_cert: "C" custom_ca: "A"\nclient_verify: true'
    assert protos.ssl(text) == protos.Ssl("K\n1", "C", "A", True)


def test_the_batching_text_may_leave_everything_out() -> None:
    assert protos.batching("") == protos.Batching()


def test_the_batching_text_has_wrapped_numbers() -> None:
    text = """
        max_batch_size { value: 128 }  batch_timeout_micros { value: 0 }  max_enqueued_batches { value: 1000 }
        num_batch_threads { value: 8 }  thread_pool_name { value: "pool" }  allowed_batch_sizes: [8, 128]
        pad_variable_length_inputs: true  enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
    """
    assert protos.batching(text) == protos.Batching(128, 0, 1000, 8, "pool", (8, 128), True, True, 64)


@pytest.mark.parametrize(
    ("parse", "name"),
    [(protos.monitoring, "MonitoringConfig"), (protos.ssl, "SSLConfig"), (protos.batching, "BatchingParameters")],
)
def test_a_text_of_another_message_is_refused_and_its_error_logged(
    parse: object, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ServingError, match=r"^Invalid protobuf file: '/f'$"):
        parse('colour: "red"', file="/f")  # type: ignore[operator]
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"Error parsing text-format tensorflow.serving.{name}: ")
    assert "colour" in said
