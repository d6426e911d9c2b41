"""Each platform waits longer for the service to end than it may take."""

import re

import pytest
from running import ROOT

from configs.settings import load_settings

LAST_STEPS = 2  # seconds to close connections, log and store
CLOUD_RUN = "10"  # seconds, which cannot be set


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("kubernetes/base/workload/deployment.yaml", r"terminationGracePeriodSeconds: (\d+)"),
        ("ecs/template.yaml", r"StopTimeout: (\d+)"),
        ("compose.yaml", r"api:\n(?:    .*\n)*    stop_grace_period: (\d+)s"),
        ("cloudrun/service.yaml", None),
    ],
)
def test_a_platform_waits_longer_than_the_service_takes_to_end(file: str, pattern: str | None) -> None:
    content = (ROOT / "configs/deploy" / file).read_text(encoding="utf-8")
    service = load_settings().service
    takes: float = LAST_STEPS
    for name in ("drain_seconds", "deadline_seconds"):
        given = re.search(rf'CREDIT_SERVICE__{name.upper()}[,:].*?"(\d+)"', content)
        takes += float(given[1]) if given else getattr(service, name)
    waits = re.search(pattern, content) if pattern else None
    assert float(waits[1] if waits else CLOUD_RUN) > takes
