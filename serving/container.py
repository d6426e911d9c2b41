"""The entry point of the image: starts the service, checks its health, or runs a command of `credit-scoring`.

It is written in Python because the image may have no shell.
"""

import http.client
import os
import sys
import tempfile
from pathlib import Path

BENTO = Path(__file__).parents[2]  # the folder of the bento, whose code is in src
KEYS_VARIABLE = "API_KEYS"  # the content of the key file, for platforms that provide secrets only as variables
PORT = 3000
CHECK_SECONDS = 2


def main(arguments: list[str]) -> int:
    """Run the command that the arguments name; returns the exit code.

    `serve` listens on PORT, which Cloud Run and Heroku set, else on BENTOML_PORT, else on 3000. `check [ROUTE]` requests `/readyz`,
    or the given route, from the service in this container. Anything else is a command of `credit-scoring`.
    """
    try:
        port = _port()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if arguments[:1] == ["check"]:
        return _check(port, *arguments[1:2])
    if keys := os.environ.pop(KEYS_VARIABLE, ""):
        _keep_keys(keys)
    if arguments != ["serve"]:
        from serving.cli import app

        _use_own_model()
        app(arguments)
    os.environ["BENTOML_PORT"] = str(port)
    from bentoml_cli.cli import cli

    cli(["serve", str(BENTO)], prog_name="bentoml")
    return 0


def _port() -> int:
    for name in ("PORT", "BENTOML_PORT"):
        if value := os.environ.get(name):
            if not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
                raise ValueError(f"{name} is {value!r}; expected a port from 1 to 65535")
            return int(value)
    return PORT


def _keep_keys(content: str) -> None:
    """Write the keys to a file and point CREDIT_KEYS_FILE at it."""
    file = Path(tempfile.mkdtemp()) / "keys.json"
    file.touch(mode=0o600)
    file.write_text(content)
    os.environ["CREDIT_KEYS_FILE"] = str(file)


def _use_own_model() -> None:
    """Let commands find the model of the bento, which is what the service serves."""
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    BentoMLContainer.model_store.set(ModelStore(BENTO / "models"))
    for folder in BENTO.glob("models/*/*/"):  # there is one
        os.environ.update(CREDIT_MODEL__NAME=folder.parent.name, CREDIT_MODEL__VERSION=folder.name)


def _check(port: int, route: str = "/readyz") -> int:
    """Request a route of the service in this container; 0 if it answers 200 within CHECK_SECONDS, else 1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=CHECK_SECONDS)
    try:
        connection.request("GET", route)
        status = connection.getresponse().status
    except OSError as error:
        sys.stderr.write(f"no answer from port {port}: {error}\n")
        return 1
    finally:
        connection.close()
    if status != 200:
        sys.stderr.write(f"{route} answers {status}\n")
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
