import pytest

from monitoring.decision_log import health


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed log is probed at every look."""
    monkeypatch.setattr(health, "PROBE_SECONDS", 0)
