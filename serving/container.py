"""What the image starts: the service, the check of its health, or a command of the command line.

The image may have no shell, so what a shell script would do stands here.
"""

import http.client
import os
import sys
import tempfile
from pathlib import Path

BENTO = Path(__file__).parents[2]  # the folder of the bento, whose code is in src
KEYS_VARIABLE = "API_KEYS"  # the content of the file of keys, on platforms that hand out secrets as variables only
PORT = 3000
CHECK_SECONDS = 2


def main(arguments: list[str]) -> int:
    """Do what the arguments say; returns the exit code.

    `serve` listens on the port that PORT names, as Cloud Run and Heroku tell it, else on BENTOML_PORT. `check` asks the service
    in this container for `/readyz`, or for the route that follows. Anything else is a command of `credit-scoring`.
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
    """Put the keys into a file, where the service looks for them."""
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
    """Ask the service in this container; 0 where it answers 200 in time."""
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
