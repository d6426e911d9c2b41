"""Builds the image by `bentoml build` and `bentoml containerize`: what `make image` runs, from the root of the project.

BentoML 1.4.39 looks for the Dockerfile template in a temporary folder and refuses it there, unless that folder lies under the
current one (BentoML issue 5566); so TMPDIR is build/tmp. tests/test_image.py says when this is no longer needed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.settings import load_settings
from serving.bundle import read_bundle
from serving.model_store import CHAMPION, find_in_store, model_store, point_latest
from serving.whole_files import locked

TEMPORARY = Path("build/tmp")
BENTOML = str(Path(sys.executable).with_name("bentoml"))


def bentoml(*arguments: str, **environment: str) -> str:
    """Run BentoML's command line; returns what it printed."""
    command = [BENTOML, *arguments]
    result = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode:
        sys.exit(f"`bentoml {' '.join(arguments)}` failed; its messages are above")
    return result.stdout


def labels(bento: dict[str, Any]) -> dict[str, str]:
    """The labels of the image, most by the names of the OCI image specification."""
    name, _, version = bento["models"][0]["tag"].partition(":")
    bundle = read_bundle(find_in_store(name, version))
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    title = "org.opencontainers.image"
    return {
        f"{title}.title": project["name"],
        f"{title}.licenses": project["license"],
        f"{title}.source": source(),
        f"{title}.version": project["version"],
        f"{title}.revision": git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "credit-scoring.model": f"{name}:{version}",
        "credit-scoring.trained_on": bundle.trained_on,
    }


def pack_champion() -> str:
    """Let `bentoml build` pack the champion, which bentofile.yaml names as BentoML's latest version; returns its tag."""
    name = load_settings().model.name
    try:
        folder = find_in_store(name, CHAMPION)
        with locked(model_store() / ".lock"):
            point_latest(name)  # a killed promotion, or BentoML's own commands, may have left it behind
    except (UserError, OSError) as error:
        sys.exit(str(error))
    return f"{name}:{folder.name}"


def source() -> str:
    """The address of the repository, without a name and password that it may hold."""
    return re.sub(r"//[^/]*@", "//", git("config", "--get", "remote.origin.url"))


def git(*arguments: str) -> str:
    """The answer of git; `unknown` if it has none, as outside a clone."""
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def main() -> None:
    """Build a bento, then its image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", required=True, help="docker, buildx, podman or buildah")
    parser.add_argument("--flavour", choices=["distroless", "slim"], required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="option of the builder, such as platform=linux/arm64"
    )
    given = parser.parse_args()
    if hidden := [part for part in Path.cwd().parts if part.startswith(".")]:
        sys.exit(
            f"{Path.cwd()} is under the hidden folder {hidden[0]}, where BentoML refuses the Dockerfile template; build from another folder"
        )
    TEMPORARY.mkdir(parents=True, exist_ok=True)
    champion = pack_champion()
    tag = bentoml("build", "-o", "tag").strip().removeprefix("__tag__:")
    bento = json.loads(bentoml("get", tag, "-o", "json"))
    if (packed := bento["models"][0]["tag"]) != champion:
        sys.exit(f"the bento holds {packed}, but the champion is {champion}, promoted meanwhile; build again")
    if given.backend in ("podman", "buildah"):
        given.option.append("format=docker")  # their own format has no health check
    options = [f"target={given.flavour}", *(f"label={name}={value}" for name, value in labels(bento).items()), *given.option]
    arguments = [word for option in options for word in ("--opt", option)]
    print(bentoml("containerize", tag, "--backend", given.backend, "-t", given.tag, *arguments, TMPDIR=str(TEMPORARY.absolute())))


if __name__ == "__main__":
    main()
