import socket

import pytest

from configs.settings import load_settings
from serving.exposure import ExposureError, check_exposure, listening_hosts


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "127.9.9.9", "localhost"])
def test_loopback_needs_no_authentication(host: str) -> None:
    check_exposure([host], load_settings(), has_keys=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "example.org"])  # noqa: S104
def test_beyond_loopback_it_must_be_switched_off_in_so_many_words(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExposureError, match=f"refusing to listen on {host} without authentication"):
        check_exposure(["127.0.0.1", host], load_settings(), has_keys=False)
    check_exposure([host], load_settings(), has_keys=True)
    monkeypatch.setenv("CREDIT_AUTH", "disabled")
    check_exposure([host], load_settings(), has_keys=False)


def test_listening_sockets_are_found() -> None:
    with socket.create_server(("127.0.0.2", 0)):
        assert "127.0.0.2" in listening_hosts()
    assert "127.0.0.2" not in listening_hosts()
