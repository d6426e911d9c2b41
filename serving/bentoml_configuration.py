"""The entries of BentoML's configuration that this service supports. It refuses to start with any other, which BentoML would ignore.

BentoML starts from its defaults and the service's own entries, and overrides them by BENTOML_CONFIG, BENTOML_CONFIG_OVERRIDES and
BENTOML_CONFIG_OPTIONS.
"""

import importlib.util
import ssl
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import click
from bentoml._internal import configuration
from bentoml._internal.configuration.containers import BentoMLConfiguration

from configs.errors import one_line
from configs.settings import Settings
from serving.http.cors import cors_problem

VERSION = 2
TAKEN = ("backlog", "http.cors", "http.host", "http.port", "ssl", "tracing")  # entries, and whole sections
_CLOUD = "only BentoCloud reads it"
_RUNNERS = "there are no runners"
_WORKERS = "the decision log has one writer; start more replicas instead"
_TIMEOUT = "set CREDIT_SERVICE__DEADLINE_SECONDS"
REFUSED = {
    "batching": "set CREDIT_SERVICE__MAX_BATCH_SIZE",
    "extra_ports": _CLOUD,
    "grpc": "the service speaks HTTP only",
    "http.proxy_port": "the service runs no command behind a proxy",
    "http.response": "each answer has an X-Request-ID",
    "logging": "set CREDIT_SERVICE__ACCESS_LOG to log a line per request",
    "max_runner_connections": _RUNNERS,
    "metrics": "GET /metrics always serves the service's own metrics",
    "monitoring": "the decision log records decisions; see CREDIT_LOG__DURABILITY",
    "name": "the service's name is fixed",
    "replicate_process": _WORKERS,
    "resources": "limit the container or the process",
    "runner_connection": _RUNNERS,
    "runner_probe": _RUNNERS,
    "ssl.keyfile_password": "the list of processes would show it; use a key without a password that only the service's user can read",
    "threads": "set CREDIT_SERVICE__SCORING_THREADS",
    "traffic": _CLOUD,
    "traffic.max_concurrency": "set CREDIT_SERVICE__MAX_IN_FLIGHT",
    "traffic.timeout": _TIMEOUT,
    "workers": _WORKERS,
}
OPTIONS = {"api_workers": _WORKERS, "timeout": _TIMEOUT}  # of `bentoml serve`
EXPORTERS = {
    ("zipkin", None): "opentelemetry.exporter.zipkin.json",
    ("jaeger", "thrift"): "opentelemetry.exporter.jaeger.thrift",
    ("jaeger", "grpc"): "opentelemetry.exporter.jaeger.proto.grpc",
    ("otlp", "grpc"): "opentelemetry.exporter.otlp.proto.grpc",
    ("otlp", "http"): "opentelemetry.exporter.otlp.proto.http",
}


def check_configuration(name: str, own: Mapping[str, Any], settings: Settings) -> None:
    """Refuse entries that BentoML would ignore.

    Parameters
    ----------
    name : name of the service.
    own : the entries that the service's decorator sets.

    Raises
    ------
    SystemExit
        An entry is not supported or not valid. The message has a sentence for each such entry.
    """
    if problems := configuration_problems(name, own, settings):
        raise SystemExit("\n".join(f"BentoML's configuration: {problem}" for problem in problems))


def configuration_problems(name: str, own: Mapping[str, Any], settings: Settings) -> list[str]:
    """A sentence for each entry that was set but is not supported, and for each supported entry whose value is not valid."""
    defaults = {"services": {name: dict(own)}}
    before = dict(_flat(BentoMLConfiguration(override_defaults=defaults, use_version=VERSION).to_dict()))
    try:
        resolved = _resolved(defaults)
    except Exception as error:  # BentoML raises errors of many kinds, such as AttributeError for a list
        return [f"BentoML cannot read it: {one_line(error)}"]
    given = dict(_flat(resolved))
    changed = [path for path, value in given.items() if (path not in before or before[path] != value) and not _is_copy(path, before)]
    service = resolved["services"][name]
    found = [
        *(_problem(path, name, before, given) for path in changed),
        cors_problem(service["http"]["cors"]),
        _ssl_problem(service["ssl"]),
        _tracing_problem(service["tracing"], on=settings.service.tracing),
        *(f"the option --{option.replace('_', '-')} has no effect here: {OPTIONS[option]}" for option in _options()),
    ]
    return list(dict.fromkeys(problem for problem in found if problem))


def _resolved(defaults: dict[str, Any]) -> dict[str, Any]:
    """The configuration as BentoML reads it from the environment."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # BENTOML_CONFIG_OPTIONS is deprecated, but BentoML still reads it
        resolved: dict[str, Any] = BentoMLConfiguration(
            override_defaults=defaults,
            override_config_file=configuration.get_bentoml_config_file_from_env(),
            override_config_values=configuration.get_bentoml_override_config_from_env(),
            override_config_json=configuration.get_bentoml_override_config_json_from_env(),
            use_version=VERSION,
        ).to_dict()
    return resolved


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _problem(path: str, name: str, before: Mapping[str, Any], given: Mapping[str, Any]) -> str | None:
    """Why an entry cannot be set, or None. The entry may be this service's or the one for all services."""
    first, _, rest = path.partition(".")
    owner, _, entry = rest.partition(".")
    if first != "services":
        return f"BentoML has no entry {path}; expected services"
    if owner != name:
        entry = rest
        if owner not in _sections(before):
            return f"services.{owner} is neither an entry nor this service, {name}"
    prefixes = list(_prefixes(entry))
    for prefix in prefixes:
        if prefix in REFUSED:
            return f"{entry} has no effect here: {REFUSED[prefix]}"
    if not set(prefixes) & set(TAKEN) or not set(_prefixes(path)) & set(before):
        return f"BentoML has no entry {entry}"
    if owner != name and given.get(f"services.{name}.{entry}") != given[path]:
        return f"the service's own entry overrides {path}; set services.{name}.{entry}"
    return None


def _sections(before: Mapping[str, Any]) -> set[str]:
    """The names of the entries and sections of all services."""
    return {path.split(".")[1] for path in before if "." in path} | set(REFUSED)


def _is_copy(path: str, before: Mapping[str, Any]) -> bool:
    """Whether BentoML itself added the entry: it mistakes the section `runner_connection` for a service."""
    parts = path.split(".")
    return parts[1:2] == ["runner_connection"] and parts[2] in _sections(before)


def _prefixes(path: str) -> Iterator[str]:
    """The path, the section that contains it, and so on up to the first part."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _ssl_problem(section: Mapping[str, Any]) -> str | None:
    certfile, keyfile, authorities = section["certfile"], section["keyfile"], section["ca_certs"]
    if not section["enabled"]:
        return "ssl names files, but ssl.enabled is false" if certfile or keyfile or authorities else None
    if not certfile:
        return "ssl is enabled without ssl.certfile"
    try:
        context = ssl.SSLContext(section["version"])
        context.load_cert_chain(certfile, keyfile, lambda: "")
        context.verify_mode = ssl.VerifyMode(section["cert_reqs"])
        if authorities:
            context.load_verify_locations(authorities)
        if section["ciphers"]:
            context.set_ciphers(section["ciphers"])
    except (OSError, ValueError, TypeError) as error:
        return f"ssl cannot be used with certfile {certfile}, keyfile {keyfile} and ca_certs {authorities}: {error}"
    return None


def _tracing_problem(section: Mapping[str, Any], *, on: bool) -> str | None:
    if all(value is None for name, value in _flat(section) if name != "jaeger.protocol"):
        return None
    exporter = section["exporter_type"]
    protocol = section.get(exporter, {}).get("protocol")
    module = EXPORTERS.get((exporter, protocol))
    if not on:
        return "tracing is ignored unless CREDIT_SERVICE__TRACING=true"
    if module is None:
        return (
            f"tracing.exporter_type is {exporter} with the protocol {protocol}; expected zipkin, jaeger or otlp with one of its protocols"
        )
    if exporter == "zipkin" and not section["zipkin"]["endpoint"]:
        return "tracing.exporter_type is zipkin, but tracing.zipkin.endpoint is not set"
    if not section["sample_rate"]:
        return "tracing.sample_rate is not set or 0, so nothing would be traced"
    return None if _is_installed(module) else f"tracing needs the module {module}, which is not installed"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is missing, too
        return False


def _options() -> list[str]:
    context = click.get_current_context(silent=True)
    return [option for option in OPTIONS if context and context.params.get(option) is not None]
