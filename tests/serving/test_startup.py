"""What the two processes of a service refuse to begin with; tests/test_start.py begins them for real."""

import json
import shutil
import socket
from pathlib import Path

import click
import pytest
from bentoml._internal.configuration.containers import BentoMLContainer
from running import Home, bundle_folder, use_models
from small import small_training

from configs.settings import Settings
from serving.bundle import MANIFEST, OPTIONAL
from serving.identity.key_ring import KeyRing
from serving.identity.keys import create_key
from serving.model_store import save_to_store
from serving.startup import STARTUP_FAILURE, check_start, check_worker, remarks
from training.deciding import decide


def changed(settings: Settings, **log: object) -> Settings:
    return settings.model_copy(update={"log": settings.log.model_copy(update=log)})


@pytest.fixture
def no_keys(settings: Settings) -> KeyRing:
    return KeyRing(settings.keys_path)


def never() -> Path:
    raise AssertionError("the address is checked before the bundle is looked for")


def test_an_address_beyond_loopback_given_to_bentoml_is_refused_without_keys(settings: Settings, no_keys: KeyRing) -> None:
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = "0.0.0.0"  # noqa: S104
        with pytest.raises(SystemExit, match=r"refusing to listen on 0\.0\.0\.0 without authentication"):
            check_start(settings, no_keys, never)


def test_an_address_beyond_loopback_in_the_configuration_is_refused_without_keys(
    settings: Settings, no_keys: KeyRing, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = BentoMLContainer.config.get()
    monkeypatch.setitem(configuration["api_server"]["http"], "host", "0.0.0.0")  # noqa: S104
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = None
        with pytest.raises(SystemExit, match=r"refusing to listen on 0\.0\.0\.0 without authentication"):
            check_start(settings, no_keys, never)


def test_a_broken_file_of_keys_is_refused_even_on_loopback(settings: Settings, no_keys: KeyRing) -> None:
    settings.home.mkdir()
    settings.keys_path.write_text("{")
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = "127.0.0.1"
        with pytest.raises(SystemExit, match="is not a file of API keys"):
            check_start(settings, no_keys, never)
    with pytest.raises(SystemExit) as caught:
        check_worker(KeyRing(settings.keys_path))
    assert caught.value.code == STARTUP_FAILURE


@pytest.mark.parametrize("listens", [True, False])
def test_a_socket_beyond_loopback_that_a_worker_was_given_is_refused_without_keys(
    settings: Settings, no_keys: KeyRing, listens: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))  # noqa: S104
        if listens:
            sock.listen()
        with pytest.raises(SystemExit) as caught:
            check_worker(no_keys)
        assert caught.value.code == STARTUP_FAILURE
        assert capsys.readouterr().err.startswith("refusing to listen on 0.0.0.0 without authentication: make a key")
        check_worker(None)
        create_key(settings.keys_path, "", None)
        check_worker(KeyRing(settings.keys_path))


@pytest.fixture
def on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BentoMLContainer.config.get()["api_server"]["http"], "host", "127.0.0.1")


@pytest.mark.usefixtures("on_loopback")
def test_a_log_that_cannot_be_written_and_raw_fields_that_are_none_are_refused(home: Home, settings: Settings) -> None:
    def find_bundle() -> Path:
        return bundle_folder(home)

    settings.home.mkdir()
    settings.log_folder.touch()
    with pytest.raises(SystemExit, match=f"the decision log in {settings.log_folder} cannot be opened"):
        check_start(settings, None, find_bundle)
    with pytest.raises(SystemExit, match="Not a directory"):
        check_start(changed(settings, durability="off"), None, find_bundle)
    settings.log_folder.unlink()
    with pytest.raises(SystemExit, match="names NOPE; expected fields"):
        check_start(changed(settings, raw_fields=("NOPE",)), None, find_bundle)


@pytest.mark.usefixtures("on_loopback")
def test_a_damaged_bundle_is_refused(home: Home, settings: Settings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle_folder(home), tmp_path / "bundle"))
    (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes() + b"\n")
    with pytest.raises(SystemExit, match=r"is damaged: model\.txt does not match its checksum"):
        check_start(settings, None, lambda: folder)


@pytest.mark.model
def test_at_the_start_it_is_said_what_of_the_settings_and_the_store_may_mislead(settings: Settings, tmp_path: Path) -> None:
    store, base = use_models(tmp_path / "models"), small_training().bundle
    (generated, unpromoted) = remarks(settings, base, packed=False)
    assert "generated data" in generated
    assert unpromoted == "no model was ever promoted in this store, so its latest is served; `credit-scoring promote` chooses one"
    assert remarks(settings, base, packed=True) == [generated]
    save_to_store(base, "credit_scoring", promote_first="the first")
    assert store.is_dir()
    assert remarks(settings, base, packed=False) == [generated]
    other = decide(base, None, 0.2)
    assert remarks(settings, other, packed=True) == [generated]
    costs = settings.decision.model_copy(update={"false_negative_cost": 5.0})
    (_, differing) = remarks(settings.model_copy(update={"decision": costs}), other, packed=True)
    assert differing == (
        "these settings act at training only: decision.false_negative_cost is 5.0, the model has 10; "
        "train again, or run `credit-scoring decide`"
    )


@pytest.mark.parametrize(
    ("reasons", "older", "said"),
    [
        ({"on_decline": True}, True, r"reasons\.on_decline is set, but the served model gives no reasons: .* train again"),
        ({"language": "nl"}, False, r"reasons\.language is 'nl'; the model has words in en, fr"),
    ],
)
def test_settings_of_reasons_that_the_model_cannot_meet_are_refused(
    settings: Settings, no_keys: KeyRing, home: Home, tmp_path: Path, reasons: dict[str, object], older: bool, said: str
) -> None:
    folder = Path(shutil.copytree(bundle_folder(home), tmp_path / "bundle"))
    if older:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"] = {name: of for name, of in manifest["files"].items() if name not in OPTIONAL}
        (folder / MANIFEST).write_text(json.dumps(manifest))
    asked = settings.model_copy(update={"reasons": settings.reasons.model_copy(update=reasons)})
    with click.Context(click.Command("serve")) as context:
        context.params["host"] = "127.0.0.1"
        with pytest.raises(SystemExit, match=said):
            check_start(asked, no_keys, lambda: folder)
