"""Each validator of `make lint-deploy` finds a planted fault: several pass in silence what they do not know."""

import shutil
import subprocess
from pathlib import Path

import pytest
from running import ROOT

pytestmark = pytest.mark.container

PYTHON = ROOT / ".venv-deploy/bin/python"


@pytest.fixture(scope="module")
def python() -> Path:
    if not PYTHON.exists():
        pytest.skip("needs the validators: make lint-deploy")
    return PYTHON


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what is checked."""
    for name in ("configs/deploy", "configs/prometheus", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "bentofile.yaml", tmp_path)
    (tmp_path / ".git").mkdir()  # where actionlint looks for the root
    return tmp_path


def check(python: Path, tree: Path, name: str) -> "subprocess.CompletedProcess[str]":
    command = [str(python), "configs/deploy/check.py", "--only", name]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=500)


STARTUP_PROBE = """          startupProbe: # 4 s on an idle processor, a minute on a busy one
            httpGet: {path: /livez, port: http}
            periodSeconds: 1
            timeoutSeconds: 2
            failureThreshold: 120
"""
FAULTS = [
    ("kubernetes/database", "kubernetes/base/workload/deployment.yaml", "periodSeconds: 2", "periodSecond: 2", "periodSecond"),
    ("kubernetes/database", "kubernetes/base/disruption.yaml", "PodDisruptionBudget", "PodDisruptionBudge", "knows no PodDisruptionBudge"),
    ("kubernetes/database", "kubernetes/base/monitor.yaml", "podTargetLabels", "podTargetLabel", "podTargetLabel"),
    ("kubernetes/database", "kubernetes/base/workload/deployment.yaml", STARTUP_PROBE, "", "has no startupProbe"),
    ("kubernetes/keda", "kubernetes/overlays/keda/scaledobject.yaml", "minReplicaCount: 3", "minReplicaCount: three", "three"),
    ("kubernetes/fsync", "kubernetes/overlays/fsync/kustomization.yaml", "headless.yaml", "headles.yaml", "headles.yaml"),
    (
        "checkov",
        "kubernetes/base/workload/deployment.yaml",
        "allowPrivilegeEscalation: false",
        "allowPrivilegeEscalation: true",
        "CKV_K8S_20",
    ),
    ("cloudrun/service.yaml", "cloudrun/service.yaml", "containerConcurrency", "concurrency", "concurrency"),
    ("aci/group.yaml", "aci/group.yaml", "memoryInGB: 1}", "memoryInGb: 1}", "memoryInGb"),
    ("heroku/heroku.yml", "heroku/heroku.yml", "web: Dockerfile", "web: 3", "3 is not of type"),
    ("ecs", "ecs/template.yaml", "StopTimeout: 30", "StopTimeouts: 30", "StopTimeouts"),
    ("image", "image/Dockerfile.j2", "USER 1034:0", "RUN cd /tmp", "DL3003"),
    ("stack/mlflow.Dockerfile", "stack/mlflow.Dockerfile", "WORKDIR /tmp", "WORKDIR tmp", "DL3000"),
    ("compose", "compose.yaml", "restart: unless-stopped", "restarts: always", "restarts"),
    ("compose", "compose.yaml", "secrets: [postgres_password, api_keys]", "secrets: [postgres_passwort]", "postgres_passwort"),
    ("rules", "../prometheus/rules.yml", "for: 1m", "for: 2m", "make rules"),
    ("prometheus", "../prometheus/rules.yml", "sum by (job)", "sum by job", "parse error"),
    ("prometheus", "stack/prometheus.yml", "scrape_interval", "scrape_intervall", "scrape_intervall"),
    ("workflows", "../../.github/workflows/ci.yaml", "needs: model", "needs: modell", "modell"),
    ("workflows", "../../.github/workflows/ci.yaml", "permissions: {}", "permissions: write-all", "excessive-permissions"),
    ("workflows", "../../.github/workflows/ci.yaml", "checkout@11bd71901bbe5b1630ceea73d27597364c9af683", "checkout@v4", "unpinned-uses"),
]


@pytest.mark.parametrize(("name", "file", "before", "after", "said"), FAULTS, ids=[f"{fault[0]}-{fault[4]}" for fault in FAULTS])
def test_a_planted_fault_is_found(name: str, file: str, before: str, after: str, said: str, python: Path, tree: Path) -> None:
    path = tree / "configs/deploy" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    result = check(python, tree, name)
    assert result.returncode == 1, result.stdout
    assert said in result.stdout + result.stderr


def test_a_secret_in_a_manifest_is_found(python: Path, tree: Path) -> None:
    file = tree / "configs/deploy/kubernetes/base/account.yaml"
    file.write_text(
        file.read_text() + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: credit-scoring}\nstringData: {metrics_key: abc}\n"
    )
    result = check(python, tree, "kubernetes/database")
    assert result.returncode == 1
    assert "the Secret credit-scoring stands in a manifest" in result.stdout


def test_without_a_fault_nothing_is_found(python: Path, tree: Path) -> None:
    command = [str(python), "configs/deploy/check.py"]
    result = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
