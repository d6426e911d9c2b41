"""Checks every deployment file with the validators of its kind. `make lint-deploy` runs it in an environment of its own.

Several validators accept whatever they do not know. So a kind without a schema counts as a problem here, and tests/deploy/test_check.py
plants a fault for each validator.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import kubernetes_validate
import yaml

VERSIONS = [f"1.{minor}" for minor in range(28, 38)]  # of Kubernetes
PROGRAMS = Path(sys.executable).parent
CHECKOV_SKIPPED = [
    "CKV_K8S_14",  # the tag is latest until `kustomize edit set image` names the digest
    "CKV_K8S_15",  # IfNotPresent is right for digests
    "CKV_K8S_35",  # the address of the database is a variable on every platform
    "CKV_K8S_40",  # 1034 is the user of the image
    "CKV_K8S_43",  # see CKV_K8S_14
    "CKV_K8S_8",  # reports end by themselves; the service has its probe, see probes() below
    "CKV_K8S_9",
    "CKV_K8S_38",  # the judge of a canary needs its token
    "CKV2_K8S_6",  # the policy selects by a label that checkov does not follow
]


def run(*command: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run a program of this environment; if it has none of this name, one of the path."""
    program = PROGRAMS / command[0]
    return subprocess.run(
        [str(program) if program.exists() else command[0], *command[1:]], capture_output=True, text=True, check=False, **options
    )


def failed(result: "subprocess.CompletedProcess[str]") -> Iterator[str]:
    """The lines that a program printed if it failed; nothing if it succeeded."""
    if result.returncode:
        yield from (line for line in f"{result.stdout}\n{result.stderr}".splitlines() if line.strip())


@cache
def kustomize(folder: Path) -> str:
    """The manifests of an overlay."""
    result = run("kubectl", "kustomize", str(folder))
    if result.returncode:
        raise SystemExit(f"{folder}: {result.stderr.strip()}")
    return result.stdout


def kubernetes(documents: list[dict[str, Any]], kinds: dict[str, Any]) -> Iterator[str]:
    """Check each manifest against the schemas of all versions of Kubernetes, or against our own schema of its kind."""
    for document in documents:
        name = f"{document.get('kind')} {document.get('metadata', {}).get('name')}"
        if schema := kinds.get(f"{document.get('apiVersion')}/{document.get('kind')}"):
            yield from (f"{name}: {problem}" for problem in against(schema, document))
            continue
        yield from (f"{name}: {problem}" for problem in in_every_version(json.dumps(document)))


@cache
def in_every_version(text: str) -> list[str]:
    """The faults of a manifest, given as JSON. They are cached, because overlays share most manifests."""
    document, problems = json.loads(text), []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}")
        except kubernetes_validate.SchemaNotFoundError:
            problems.append(f"Kubernetes {version} knows no {document['kind']} of {document['apiVersion']}; add its schema to schemas.yaml")
    return problems


def against(schema: dict[str, Any], document: Any) -> Iterator[str]:
    """The faults of a document by a schema."""
    for error in jsonschema.Draft202012Validator(schema).iter_errors(document):
        yield f"{'.'.join(map(str, error.absolute_path))}: {error.message}"


def secrets(documents: list[dict[str, Any]]) -> Iterator[str]:
    """No manifest holds a secret: whoever deploys makes the Secret."""
    yield from (
        f"the Secret {document['metadata']['name']} stands in a manifest" for document in documents if document.get("kind") == "Secret"
    )


def probes(documents: list[dict[str, Any]]) -> Iterator[str]:
    """Every container that serves has all three probes."""
    for document in documents:
        if document.get("kind") in ("Deployment", "StatefulSet"):
            container = document["spec"]["template"]["spec"]["containers"][0]
            missing = {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys()
            yield from (f"{document['kind']} {document['metadata']['name']} has no {probe}" for probe in sorted(missing))


def checkov(manifests: dict[str, str]) -> Iterator[str]:
    """The rules of checkov on the manifests of all overlays at once, except those in CHECKOV_SKIPPED."""
    folder = Path("build/checkov")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in manifests.items():
        (folder / f"{name}.yaml").write_text(text)
    skipped = ",".join(CHECKOV_SKIPPED)
    environment = {**os.environ, "LOG_LEVEL": "CRITICAL"}
    command = [
        "checkov",
        "-d",
        str(folder),
        "--framework",
        "kubernetes",
        "--skip-download",
        "--compact",
        "--quiet",
        "--skip-check",
        skipped,
    ]
    yield from failed(run(*command, env=environment))


def dockerfile(template: str) -> str:
    """The Dockerfile as BentoML renders it with these variables."""
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 - not HTML
    environment.filters["bash_quote"] = shlex.quote
    options = yaml.safe_load(Path("bentofile.yaml").read_text())
    variables = {
        "__base_image__": options["docker"]["base_image"],
        "__options__env": {item["name"]: item["value"] for item in options["envs"]},
    }
    return environment.from_string(template).render(**variables)


def hadolint(text: str) -> Iterator[str]:
    """The rules of hadolint on a Dockerfile."""
    yield from failed(run("hadolint", "--no-color", "--failure-threshold", "info", "-", input=text))


def promtool(root: Path) -> Iterator[str]:
    """Prometheus's own check of its files. The secret that one of them names may be absent."""
    if not shutil.which("promtool"):
        if os.environ.get("CI") == "true":
            yield "promtool is not there; install Debian's package prometheus"
        return
    yield from failed(run("promtool", "check", "rules", "--lint=all", "--lint-fatal", str(root / "configs/prometheus/rules.yml")))
    text = (root / "configs/deploy/stack/prometheus.yml").read_text()
    folder = root / "build/promtool"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(text.replace("rules.yml", str((root / "configs/prometheus/rules.yml").absolute())))
    yield from failed(run("promtool", "check", "config", "--syntax-only", str(folder / "prometheus.yml")))


def rules_are_those_of_prometheus(deploy: Path) -> Iterator[str]:
    """The PrometheusRule holds the same rules as configs/prometheus/rules.yml."""
    made = yaml.safe_load((deploy / "kubernetes/base/rules.yaml").read_text())["spec"]
    if made != yaml.safe_load((deploy.parent / "prometheus/rules.yml").read_text()):
        yield "kubernetes/base/rules.yaml is not what configs/prometheus/rules.yml says; run `make rules`"


def against_file(schema: dict[str, Any], file: Path) -> Iterator[str]:
    """The faults of a YAML file by a schema."""
    yield from against(schema, yaml.safe_load(file.read_text()))


def overlay(folder: Path, kinds: dict[str, Any]) -> Iterator[str]:
    """All checks of one overlay, except checkov's."""
    documents = [document for document in yaml.safe_load_all(kustomize(folder)) if document]
    for check in (kubernetes(documents, kinds), secrets(documents), probes(documents)):
        yield from check


def workflows(folder: Path) -> Iterator[str]:
    """GitHub's workflows."""
    files = sorted(map(str, (folder / "workflows").glob("*.yaml")))
    yield from failed(run("actionlint", *files))
    yield from failed(run("zizmor", "--offline", "--pedantic", "--no-progress", str(folder)))


def compose(file: Path) -> Iterator[str]:
    """The stack: its schema, and whether its parts fit together."""
    yield from failed(run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)))
    yield from failed(run("docker-compose", "-f", str(file), "--profile", "*", "config", "-q"))


def checks(root: Path) -> dict[str, Callable[[], Iterator[str]]]:
    """Every check by its name."""
    deploy = root / "configs/deploy"
    schemas = yaml.safe_load((deploy / "schemas.yaml").read_text())
    kinds = schemas["kinds"]
    overlays = sorted((deploy / "kubernetes/overlays").iterdir())
    found: dict[str, Callable[[], Iterator[str]]] = {"checkov": lambda: checkov({folder.name: kustomize(folder) for folder in overlays})}
    for folder in overlays:
        found[f"kubernetes/{folder.name}"] = partial(overlay, folder, kinds)
    for file, schema in {"cloudrun/service.yaml": kinds["serving.knative.dev/v1/Service"], **schemas["files"]}.items():
        found[file] = partial(against_file, schema, deploy / file)
    return {
        **found,
        "image": lambda: hadolint(dockerfile((deploy / "image/Dockerfile.j2").read_text())),
        "stack/mlflow.Dockerfile": lambda: hadolint((deploy / "stack/mlflow.Dockerfile").read_text()),
        "ecs": lambda: failed(run("cfn-lint", str(deploy / "ecs/template.yaml"))),
        "compose": lambda: compose(deploy / "compose.yaml"),
        "workflows": lambda: workflows(root / ".github"),
        "prometheus": lambda: promtool(root),
        "rules": lambda: rules_are_those_of_prometheus(deploy),
    }


def main() -> int:
    """Run the checks; prints what is wrong and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path())
    parser.add_argument("--only", action="append", metavar="NAME", help="a check; without it all are run")
    given = parser.parse_args()
    every = {name: check for name, check in checks(given.root).items() if name in (given.only or [name])}
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(every, pool.map(lambda check: list(check()), every.values()), strict=True))
    for name, problems in results.items():
        print(*(f"{name}: {problem}" for problem in problems), sep="\n", end="\n" if problems else "")
    wrong = sum(map(bool, results.values()))
    print(f"{len(results)} deployment checks, {wrong} with problems")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
