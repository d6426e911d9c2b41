"""Every entry of BentoML's configuration works or is refused at start."""

import copy
import functools
import importlib.util
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from bentoml._internal.configuration import containers, helpers, v2

from configs.settings import load_settings
from serving import bentoml_configuration
from serving.bentoml_configuration import REFUSED, TAKEN, check_configuration, configuration_problems

pytestmark = pytest.mark.slow

NAME = "credit_scoring"
OWN = {"workers": 1, "http": {"host": "127.0.0.1", "port": 3000}, "metrics": {"enabled": False}, "logging": {"access": {"enabled": False}}}
VALUES = {  # of each entry that is refused, one that BentoML takes and that is not the service's own
    "batching.enabled": True,
    "batching.max_batch_size": 5,
    "batching.max_latency_ms": 5,
    "extra_ports": [5000],
    "grpc.channelz.enabled": True,
    "grpc.host": "127.0.0.2",
    "grpc.max_concurrent_streams": 5,
    "grpc.max_message_length": 5,
    "grpc.maximum_concurrent_rpcs": 5,
    "grpc.metrics.host": "127.0.0.2",
    "grpc.metrics.port": 5,
    "grpc.port": 5,
    "grpc.reflection.enabled": True,
    "http.proxy_port": 5,
    "http.response.trace_id": True,
    "logging.access.enabled": True,
    "logging.access.format.span_id": "x",
    "logging.access.format.trace_id": "x",
    "logging.access.request_content_length": False,
    "logging.access.request_content_type": False,
    "logging.access.response_content_length": False,
    "logging.access.response_content_type": False,
    "logging.access.skip_paths": ["/"],
    "max_runner_connections": 5,
    "metrics.duration.buckets": [0.5],
    "metrics.duration.factor": 1.5,
    "metrics.duration.max": 1.5,
    "metrics.duration.min": 0.5,
    "metrics.enabled": True,
    "metrics.namespace": "mine",
    "monitoring.enabled": False,
    "monitoring.options": {"log_path": "x"},
    "monitoring.type": "otlp",
    "name": "mine",
    "replicate_process": True,
    "resources.cpu": 2,
    "resources.gpu": 1,
    "resources.gpu_type": "nvidia-tesla-t4",
    "resources.memory": "1Gi",
    "resources.tpu_type": "v4-2x2x1",
    "runner_connection.max_age": 5.0,
    "runner_connection.max_requests": 5,
    "runner_probe.enabled": False,
    "runner_probe.period": 5,
    "runner_probe.timeout": 5,
    "ssl.keyfile_password": "x",
    "threads": 5,
    "traffic.concurrency": 5,
    "traffic.external_queue": True,
    "traffic.max_concurrency": 5,
    "traffic.timeout": 5,
    "workers": 2,
}


read_defaults = functools.cache(helpers.get_default_config)


@pytest.fixture(autouse=True)
def _defaults_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """BentoML parses the file of its defaults, which does not change, for every configuration."""
    monkeypatch.setattr(containers, "get_default_config", lambda version: copy.deepcopy(read_defaults(version)))


def under(entry: str, given: Mapping[str, Any] | tuple[str, ...]) -> bool:
    return any(f"{entry}.".startswith(f"{section}.") for section in given)


@pytest.fixture
def problems(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is said of entries, of this service or of all."""

    def of(*entries: tuple[str, Any], owner: str = f"services.{NAME}.", **service: Any) -> list[str]:
        settings = load_settings()
        settings = settings.model_copy(update={"service": settings.service.model_copy(update=service)})
        with monkeypatch.context() as patch:
            file: dict[str, Any] = {}
            for entry, value in entries:
                place = file
                *sections, last = (owner + entry).split(".")
                for part in sections:
                    place = place.setdefault(part, {})
                place[last] = value
            patch.setenv("BENTOML_CONFIG_OVERRIDES", json.dumps(file))
            return configuration_problems(NAME, OWN, settings)

    return of


def offered(schema: Any, prefix: str = "") -> Iterator[str]:
    """The entries of a part of BentoML's schema."""
    for key, value in schema.items():
        name = f"{prefix}{getattr(key, 'schema', key)}"
        inner = next((part for part in getattr(value, "args", ()) if isinstance(part, dict)), value)
        if isinstance(inner, dict):
            yield from offered(inner, f"{name}.")
        else:
            yield name


ENTRIES = sorted(offered({key: value for key, value in v2.SCHEMA.schema["services"].items() if getattr(key, "schema", key) is not str}))


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_is_taken_or_refused(entry: str, problems: Any) -> None:
    if under(entry, REFUSED):
        as_all = VALUES[entry] is True and entry in (
            "logging.access.enabled",
            "metrics.enabled",
        )  # that is what BentoML sets for all anyway
        for owner in (f"services.{NAME}.",) if as_all else (f"services.{NAME}.", "services."):
            (said,) = problems((entry, VALUES[entry]), owner=owner)
            reason = next(REFUSED[section] for section in sorted(REFUSED, reverse=True) if under(entry, (section,)))
            assert said in (f"{entry} has no effect here: {reason}", f"monitoring.options.log_path has no effect here: {reason}")
    else:
        assert under(entry, TAKEN)


def test_what_the_service_sets_itself_is_not_given(problems: Any) -> None:
    assert problems() == []
    assert problems(("workers", 1), ("metrics.enabled", False), ("grpc.port", 3000)) == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BENTOML_CONFIG", "FILE"),
        ("BENTOML_CONFIG_OPTIONS", f"services.{NAME}.traffic.timeout=5"),
        ("BENTOML_CONFIG_OVERRIDES", '{"services": {"traffic": {"timeout": 5}}}'),
    ],
)
def test_the_start_ends_with_a_sentence_wherever_an_entry_comes_from(
    variable: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bentoml.yaml"
    file.write_text("services: {traffic: {timeout: 5}}")
    monkeypatch.setenv(variable, value.replace("FILE", str(file)))
    with pytest.raises(SystemExit) as caught:
        check_configuration(NAME, OWN, load_settings())
    assert caught.value.code == ("BentoML's configuration: traffic.timeout has no effect here: set CREDIT_SERVICE__DEADLINE_SECONDS")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("BENTOML_CONFIG", "services: {workers: -1}", "workers"),
        ("BENTOML_CONFIG", "services: {credit_scoring: {http: {port: '3000'}}}", "port"),
        ("BENTOML_CONFIG", "services: {credit_scoring: null}", "credit_scoring"),
        ("BENTOML_CONFIG", "services: null", ""),
        ("BENTOML_CONFIG", "[]", ""),
        ("BENTOML_CONFIG", "services: [", "while parsing"),
        ("BENTOML_CONFIG", "version: 3\nservices: {}", "version"),
        ("BENTOML_CONFIG_OVERRIDES", "{", "Expecting property name"),
        ("BENTOML_CONFIG_OPTIONS", "services", ""),
    ],
)
def test_what_bentoml_cannot_read_is_a_problem(
    variable: str, value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bentoml.yaml"
    file.write_text(value)
    monkeypatch.setenv(variable, str(file) if variable == "BENTOML_CONFIG" else value)
    (problem,) = configuration_problems(NAME, OWN, load_settings())
    assert problem.startswith("BentoML cannot read it: ")
    assert said in problem
    assert "\n" not in problem


def test_options_of_serve_that_would_be_ignored_are_named_too(problems: Any) -> None:
    with click.Context(click.Command("serve")) as context:
        context.params = {"api_workers": 4, "timeout": 30, "host": None}
        assert problems() == [
            "the option --api-workers has no effect here: the decision log has one writer; start more replicas instead",
            "the option --timeout has no effect here: set CREDIT_SERVICE__DEADLINE_SECONDS",
        ]


@pytest.mark.parametrize(
    ("entry", "value", "owner", "said"),
    [
        ("http.cosr.enabled", True, f"services.{NAME}.", "BentoML has no entry http.cosr.enabled"),
        ("http.cors.origins", "*", f"services.{NAME}.", "BentoML has no entry http.cors.origins"),
        ("http.port", 4000, "services.credit-scoring.", f"services.credit-scoring is neither an entry nor this service, {NAME}"),
        ("port", 4000, "api_server.", "BentoML has no entry api_server.port; expected services"),
        ("http.port", 4000, "services.", f"the service's own entry overrides services.http.port; set services.{NAME}.http.port"),
        ("http.host", "127.0.0.2", "services.", f"the service's own entry overrides services.http.host; set services.{NAME}.http.host"),
        ("http.cors.enabled", True, "services.", "http.cors is enabled but allows no origin; expected access_control_allow_origins or"),
        ("ssl.enabled", True, f"services.{NAME}.", "ssl is enabled without ssl.certfile"),
        ("ssl.certfile", "a.pem", f"services.{NAME}.", "ssl names files, but ssl.enabled is false"),
        ("tracing.sample_rate", 1.0, f"services.{NAME}.", "tracing is ignored unless CREDIT_SERVICE__TRACING=true"),
    ],
)
def test_what_would_be_lost_is_said(entry: str, value: Any, owner: str, said: str, problems: Any) -> None:
    (problem,) = problems((entry, value), owner=owner)
    assert problem.startswith(said)


def test_what_is_taken_is_no_problem(problems: Any) -> None:
    assert problems(("http.port", 4000), ("http.host", "127.0.0.2"), ("backlog", 100)) == []
    cors = [("http.cors.enabled", True), ("http.cors.access_control_allow_origins", "*"), ("backlog", 100)]
    assert problems(*cors) == problems(*cors, owner="services.") == []


def test_files_of_tls_are_tried_at_start(tmp_path: Path, problems: Any, need: Any) -> None:
    key, certificate, other = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "other.pem"
    for file in (key, other):
        subprocess.run([need("openssl"), "genrsa", "-out", file, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "req", "-x509", "-key", key, "-out", certificate, "-subj", "/CN=x", "-days", "2"], check=True)
    given = [("ssl.enabled", True), ("ssl.certfile", str(certificate)), ("ssl.keyfile", str(key))]
    assert problems(*given) == []
    assert problems(*given, ("ssl.ca_certs", str(certificate)), ("ssl.cert_reqs", int(ssl.CERT_REQUIRED))) == []
    for entry, value, said in (
        ("keyfile", str(other), "KEY_VALUES_MISMATCH"),
        ("keyfile", str(tmp_path / "none"), "No such file"),
        ("ca_certs", str(key), "no certificate"),
        ("cert_reqs", 7, "7 is not a valid VerifyMode"),
        ("ciphers", "none", "No cipher can be selected"),
        ("version", 99, "invalid or unsupported protocol version"),
    ):
        (problem,) = problems(*given, (f"ssl.{entry}", value))
        assert problem.startswith(f"ssl cannot be used with certfile {certificate}, keyfile "), problem
        assert said.lower() in problem.lower()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"exporter_type": "in_memory"}, "tracing.exporter_type is in_memory with the protocol None; expected zipkin, jaeger or otlp"),
        ({"sample_rate": 1.0}, "tracing.exporter_type is None"),
        ({"exporter_type": "otlp"}, "tracing.exporter_type is otlp with the protocol None"),
        ({"exporter_type": "zipkin"}, "tracing.exporter_type is zipkin, but tracing.zipkin.endpoint is not set"),
        ({"exporter_type": "otlp", "otlp.protocol": "http"}, "tracing.sample_rate is not set or 0, so nothing would be traced"),
        (
            {"exporter_type": "otlp", "otlp.protocol": "http", "otlp.http.headers": {"a": "b"}, "sample_rate": 1.0},
            "tracing needs the module opentelemetry.exporter.otlp.proto.http, which is not installed",
        ),
    ],
)
def test_tracing_that_would_reach_nobody_is_said(entries: dict[str, Any], said: str, problems: Any) -> None:
    (problem,) = problems(*((f"tracing.{entry}", value) for entry, value in entries.items()), tracing=True)
    assert problem.startswith(said)


def test_tracing_is_taken_where_its_exporter_is_installed(problems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {"exporter_type": "jaeger", "jaeger.collector_endpoint": "http://127.0.0.1", "sample_rate": 0.5, "excluded_urls": "livez"}
    monkeypatch.setattr(bentoml_configuration.importlib.util, "find_spec", lambda name: importlib.util.spec_from_loader(name, None))
    assert problems(*((f"tracing.{entry}", value) for entry, value in entries.items()), tracing=True) == []
