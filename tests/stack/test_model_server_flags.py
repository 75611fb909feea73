"""The command line: what the flags mean, and the words a start ends with when it cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stack.model_server.__main__ import main
from stack.model_server.config import ModelConfig
from stack.model_server.errors import ServingError
from stack.model_server.flags import WITHOUT_EFFECT, channel_arguments, options, parser
from stack.model_server.options import Options, Rest
from stack.model_server.protos import Monitoring
from stack.model_server.servable import Threads

CORES = os.cpu_count() or 1


def parsed(*words: str) -> Options:
    return options(parser().parse_args(list(words)))


def test_one_model_is_named_on_the_command_line() -> None:
    asked = parsed("--model_base_path=/m", "--model_name=line", "--port=8700")
    assert (asked.models, asked.port) == ((ModelConfig("line", Path("/m")),), 8700)
    assert parsed("--model_base_path=/m").models[0].name == "default"


def test_a_file_goes_before_one_model() -> None:
    asked = parsed("--model_base_path=/m", "--model_config_file=/f", "--model_config_file_poll_wait_seconds=3")
    assert (asked.models, asked.model_config_file, asked.model_config_file_poll_wait_s) == ((), Path("/f"), 3.0)


def test_the_defaults_are_upstreams() -> None:
    asked = parsed("--model_base_path=/m")
    assert (asked.port, asked.rest, asked.batching, asked.grpc.ssl) == (8500, None, None, None)
    assert (asked.file_system_poll_wait_s, asked.model_config_file_poll_wait_s) == (1.0, 0.0)
    assert (asked.max_num_load_retries, asked.load_retry_interval_s) == (5, 60.0)
    assert (asked.load.enable_model_warmup, asked.load.num_request_iterations_for_warmup) == (True, 1)
    assert (asked.rules.check_method, asked.rules.as_content, asked.grpc.health) == (False, False, False)
    assert asked.allow_version_labels_for_unavailable_models is asked.open_port_before_models is False
    assert (asked.load.tags, asked.load.threads, asked.load.prefer_tflite_model) == (("serve",), Threads(), False)
    assert (asked.grpc.threads, asked.grpc.socket_path, asked.grpc.arguments) == (4 * CORES, "", ())
    assert (asked.grpc.profiler, asked.monitoring, asked.model_config_file) == (True, Monitoring(), None)
    rest = parsed("--model_base_path=/m", "--rest_api_port=1").rest
    assert rest == Rest(1, threads=4 * CORES, timeout_s=30.0, cors=False)


def test_every_part_takes_its_flags(tmp_path: Path) -> None:
    batching, monitoring, ssl = tmp_path / "batching", tmp_path / "monitoring", tmp_path / "ssl"
    batching.write_text("max_batch_size { value: 64 }")
    monitoring.write_text("prometheus_config { enable: true }")
    ssl.write_text('server_key: "k" server_cert: "c"')
    asked = parsed(
        "--model_base_path=/m", "--enable_batching", f"--batching_parameters_file={batching}",
        f"--monitoring_config_file={monitoring}", f"--ssl_config_file={ssl}", "--rest_api_port=8501",
        "--rest_api_num_threads=3", "--rest_api_timeout_in_ms=1500", "--rest_api_enable_cors_support=true",
        "--grpc_socket_path=/s", "--grpc_channel_arguments=grpc.a=5,grpc.b=x", "--grpc_max_threads=2",
        "--enable_grpc_healthcheck_service", "--enable_signature_method_name_check=1", "--saved_model_tags=serve,gpu",
        "--enable_serialization_as_tensor_content", "--enable_model_warmup=false",
        "--num_request_iterations_for_warmup=4", "--prefer_tflite_model=true", "--enable_profiler=false",
        "--load_retry_interval_micros=250000",
    )  # fmt: skip
    assert asked.rest is not None
    assert asked.batching is not None
    assert asked.grpc.ssl is not None
    assert (asked.rest.port, asked.rest.threads, asked.rest.timeout_s, asked.rest.cors) == (8501, 3, 1.5, True)
    assert (asked.grpc.socket_path, asked.grpc.threads, asked.grpc.health) == ("/s", 2, True)
    assert asked.grpc.arguments == (("grpc.a", 5), ("grpc.b", "x"))
    assert (asked.batching.input_limit, asked.monitoring.enable, asked.grpc.ssl.server_key) == (64, True, "k")
    assert (asked.rules.check_method, asked.rules.as_content) == (True, True)
    assert (asked.load.enable_model_warmup, asked.load.num_request_iterations_for_warmup) == (False, 4)
    assert (asked.load.tags, asked.load_retry_interval_s) == (("serve", "gpu"), 0.25)
    assert (asked.load.prefer_tflite_model, asked.grpc.profiler) == (True, False)


@pytest.mark.parametrize(
    ("words", "threads"),
    [
        ([], Threads(1, 0)),
        (["--tensorflow_session_parallelism=3"], Threads(3, 3)),
        (["--tensorflow_session_parallelism=3", "--tensorflow_inter_op_parallelism=2"], Threads(1, 2)),
        (["--tensorflow_session_parallelism=3", "--tensorflow_intra_op_parallelism=2"], Threads(2, 0)),
        (["--tensorflow_session_parallelism=3", "--tensorflow_intra_op_parallelism=0"], Threads(3, 3)),
        (["--tensorflow_intra_op_parallelism=0", "--tensorflow_inter_op_parallelism=0"], Threads(0, 0)),
    ],
)
def test_threads_are_the_sessions_or_one_kinds(words: list[str], threads: Threads) -> None:
    assert parsed("--model_base_path=/m", *words).load.threads == threads


def test_channel_arguments_that_read_as_numbers_are_numbers() -> None:
    assert channel_arguments("a=1,b=-2,c=x=y,d=,nothing") == (("a", 1), ("b", -2), ("c", "x=y"), ("d", ""))


@pytest.mark.parametrize("name", WITHOUT_EFFECT)
@pytest.mark.parametrize("value", ["", "=false"])
def test_flags_without_effect_are_taken(name: str, value: str) -> None:
    assert parsed("--model_base_path=/m", f"--{name}{value}") == parsed("--model_base_path=/m")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "Both server_options.model_base_path and server_options.model_config_file are empty!"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"],
         "server_options.batching_parameters_file is set without setting server_options.enable_batching to true."),
        (["--model_base_path=/m", "--tensorflow_session_parallelism=1", "--tensorflow_intra_op_parallelism=2",
          "--tensorflow_inter_op_parallelism=3"],
         "Either configure server_options.tensorflow_session_parallelism or "
         "(server_options.tensorflow_intra_op_parallelism, server_options.tensorflow_inter_op_parallelism) separately. "
         "You cannot configure all."),
    ],
)  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(words: list[str], reason: str) -> None:
    with pytest.raises(ServingError) as caught:
        parsed(*words)
    assert caught.value.status == f"INVALID_ARGUMENT: {reason}"


@pytest.mark.parametrize("words", [["--nonsense", "--more"], ["--nonsense=5"], ["nonsense"]])
def test_an_argument_that_is_none_is_named_and_the_start_goes_on(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 255  # for want of a model
    out = capsys.readouterr().out
    assert out.startswith(f"unknown argument: {words[0]}\nusage: ")
    assert "--more" not in out
    assert "Both server_options.model_base_path and" in out


@pytest.mark.parametrize("word", ["--port=many", "--enable_batching=perhaps"])
def test_a_value_that_is_none_ends_with_usage_and_255(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--model_base_path=/m", word])
    assert caught.value.code == 255
    assert word.removeprefix("--").split("=")[0] in capsys.readouterr().err


def test_a_start_that_cannot_be_says_why_and_ends_with_255(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process keeps its own
    assert main([]) == 255
    assert "Failed to start server. Error: INVALID_ARGUMENT: Both server_options" in capsys.readouterr().out
    file = tmp_path / "models.config"
    file.write_text("model_config_list { nonsense")
    assert main([f"--model_config_file={file}", "--port=0"]) == 255
    assert (
        f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'" in capsys.readouterr().out
    )
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in caplog.text
    for flag in ("monitoring_config_file", "ssl_config_file", "model_config_file"):
        assert main(["--model_base_path=/m", f"--{flag}=/none", "--port=0"]) == 255
        assert "Failed to start server. Error: NOT_FOUND: /none; No such file or directory" in capsys.readouterr().out


def test_a_start_that_cannot_be_tells_the_parsers_words_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text("model_config_list { nonsense")
    ran = subprocess.run(
        [sys.executable, "-m", "stack.model_server", f"--model_config_file={file}", "--port=0", "--nonsense"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in ran.stderr
    assert "unknown argument: --nonsense" in ran.stdout
    assert f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'" in ran.stdout


@pytest.mark.parametrize(
    ("flag", "name"),
    [("monitoring_config_file", "MonitoringConfig"), ("ssl_config_file", "SSLConfig"),
     ("batching_parameters_file", "BatchingParameters")],
)  # fmt: skip
def test_a_bad_text_file_is_named_in_the_status_and_its_error_in_the_log(
    flag: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"
    for content in (b'colour: "red"', b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(ServingError) as caught:
            parsed("--model_base_path=/m", "--enable_batching", f"--{flag}={file}")
        assert caught.value.status == f"INVALID_ARGUMENT: Invalid protobuf file: '{file}'"
    assert f"Error parsing text-format tensorflow.serving.{name}: " in caplog.text


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("TensorFlow ModelServer: ")
    assert second.startswith("TensorFlow Library: ")
