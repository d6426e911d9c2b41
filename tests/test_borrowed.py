"""What the product uses of BentoML, circus, uvicorn and LightGBM that they do not document: all of it is listed here, and each has a canary.

A canary that fails after an update names what has moved, before a service finds out.
"""

import ast
import inspect
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "features", "monitoring", "serving", "training", "loadtests")


def bentoml_service() -> None:
    """serving/http/bento.py makes the app of fewer layers."""
    from _bentoml_impl.server.app import ServiceAppFactory
    from _bentoml_sdk import Service

    assert "is_main" in inspect.signature(Service.to_asgi).parameters
    assert callable(Service.inject_config)
    assert isinstance(inspect.getattr_static(ServiceAppFactory, "middlewares"), property)
    assert list(inspect.signature(ServiceAppFactory.api_endpoint_wrapper).parameters) == ["self", "name", "request"]
    assert {"is_main", "enable_access_control"} <= set(inspect.signature(ServiceAppFactory.__init__).parameters)
    assert "_service_instance" in inspect.getsource(ServiceAppFactory)


def bentoml_configuration() -> None:
    """serving/startup.py and serving/bentoml_configuration.py read where the service will listen."""
    from bentoml._internal import configuration
    from bentoml._internal.configuration.containers import BentoMLConfiguration, BentoMLContainer

    assert BentoMLContainer.http.cors.get()["enabled"] in {True, False}
    assert isinstance(BentoMLContainer.http.host.get(), str)
    assert {"override_config_file", "override_config_values", "override_config_json"} <= set(
        inspect.signature(BentoMLConfiguration.__init__).parameters
    )
    for name in ("get_bentoml_config_file_from_env", "get_bentoml_override_config_from_env", "get_bentoml_override_config_json_from_env"):
        assert callable(getattr(configuration, name))


def bentoml_store() -> None:
    """serving/model_store.py writes an entry of the model store whole; BentoML copies its files one after the other."""
    import bentoml
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models.model import ModelInfo

    assert Path(BentoMLContainer.model_store.get()._path).name == "models"
    tag = bentoml.Tag("a", "b")
    assert (tag.path(), tag.latest_path()) == ("a/b", "a/latest")
    assert {"tag", "module", "labels", "options", "metadata", "context", "signatures", "api_version"} <= set(
        inspect.signature(ModelInfo.__init__).parameters
    )
    assert callable(ModelInfo.dump)


def bentoml_models() -> None:
    """serving/container.py points the commands at the model inside the bento."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    assert len(inspect.signature(ModelStore.__init__).parameters) >= 2
    assert callable(BentoMLContainer.model_store.set)


def circus_signals() -> None:
    """serving/startup.py changes what BentoML's parent process does on SIGINT."""
    from circus.sighandler import SysHandler

    assert callable(SysHandler.quit)
    assert "handle_%s" in inspect.getsource(SysHandler.signal)
    assert SysHandler.SIG_NAMES[signal.SIGINT] == "int"


def uvicorn_protocol() -> None:
    """serving/uvicorn/ overrides the callbacks of the protocol, and reads the state of its cycles."""
    from uvicorn.protocols.http import auto
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

    from serving.uvicorn.guard import HOOKS

    assert issubclass(auto.AutoHTTPProtocol, HttpToolsProtocol)
    assert [hook for hook in HOOKS if not callable(getattr(HttpToolsProtocol, hook, None))] == []
    begun = inspect.getsource(RequestResponseCycle.__init__)
    for name in (
        "disconnected",
        "response_started",
        "response_complete",
        "keep_alive",
        "more_body",
        "body",
        "waiting_for_100_continue",
        "scope",
        "transport",
    ):
        assert f"self.{name} =" in begun, name
    made = inspect.getsource(HttpToolsProtocol)
    for name in ("parser", "transport", "flow", "pipeline", "server_state", "cycle", "scope", "headers", "expect_100_continue", "url"):
        assert f"self.{name}" in made, name


def uvloop_servers() -> None:
    """serving/uvicorn/accept.py takes connections from the listening socket beside uvloop's server."""
    import uvloop

    assert uvloop.Loop.__module__.startswith("uvloop")
    assert callable(uvloop.Loop.connect_accepted_socket)


def lightgbm_library() -> None:
    """features/trees.py scores lone rows by the C library's quick way, which the Python package does not offer."""
    from lightgbm.basic import _LIB, Booster

    assert callable(_LIB.LGBM_BoosterPredictForMatSingleRowFastInit)
    assert callable(_LIB.LGBM_BoosterPredictForMatSingleRowFast)
    assert "self._handle" in inspect.getsource(Booster.__init__)


BORROWED: dict[str, Callable[[], None]] = {  # module that is not documented, or holds what is not: its canary
    "_bentoml_sdk": bentoml_service,
    "_bentoml_impl.server.app": bentoml_service,
    "bentoml._internal": bentoml_configuration,
    "bentoml._internal.configuration.containers": bentoml_configuration,
    "bentoml._internal.models": bentoml_models,
    "bentoml._internal.models.model": bentoml_store,
    "circus.sighandler": circus_signals,
    "uvicorn.protocols.http": uvicorn_protocol,
    "uvloop": uvloop_servers,
    "lightgbm.basic": lightgbm_library,
}


@pytest.mark.parametrize("canary", dict.fromkeys(BORROWED.values()), ids=lambda canary: canary.__name__)
def test_what_is_borrowed_is_still_there(canary: Callable[[], None]) -> None:
    canary()


def test_nothing_is_borrowed_that_is_not_listed() -> None:
    found = set()
    for path in [ROOT / "service.py", *(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                private = any(part.startswith("_") for part in node.module.split(".")) or any(
                    name.name.startswith("_") for name in node.names
                )
                if private and not node.module.startswith("__") and node.module.split(".")[0] not in PACKAGES:
                    found.add(node.module)
                found.update({node.module} & set(BORROWED))
    assert found <= set(BORROWED)
    assert found >= set(BORROWED) - {"uvloop"}, "the list names what is not used any more"
