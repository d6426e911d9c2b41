"""Starts programs of the product quickly, by forking a process that has imported all libraries.

The tests start about 150 programs, and the imports of each would take 5 to 20 seconds. Like a program started as usual, a forked one
has its own environment, folder, standard streams, session and exit code. But its interpreter is not fresh, so tests of imports and of
the start itself use real processes.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "training.cli",
    "bentoml_cli.cli",
    "_bentoml_impl.worker.service",
    "_bentoml_impl.server.app",
    "_bentoml_impl.server.serving",
    "alembic.command",
    "lightgbm",
    "matplotlib.pyplot",
    "mlflow",
    "optuna",
    "psycopg",
    "pyarrow.csv",
    "pyarrow.parquet",
    "sklearn.calibration",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "typer.rich_utils",
    "rich.markdown",
    "uvicorn",
    "uvloop",
)
PROGRAMS = {
    "credit-scoring": ("training.cli", "app"),
    "bentoml": ("bentoml_cli.cli", "cli"),
    "worker": ("_bentoml_impl.worker.service", "main"),
}
ADDRESS = "TESTS_WARM"  # variable with the socket of the process that forks, which all pytest workers share
FIRST_FREE = 3  # first file descriptor after the standard streams


@dataclass
class Process:
    """A forked program; a subset of subprocess.Popen."""

    pid: int
    channel: socket.socket
    returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit code, negative for a signal.

        Raises
        ------
        subprocess.TimeoutExpired
            The program is still running.
        """
        if self.returncode is None:
            self.channel.settimeout(timeout)
            try:
                answer = self.channel.recv(64)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0) from None
            assert answer, "the process that forks has ended"
            self.returncode = int(answer)
            self.channel.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code; None while the program is running."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def start(program: str, arguments: list[str], environment: dict[str, str], cwd: Path, output: int, errors: int, *more: int) -> Process:
    """Start a program of PROGRAMS, or a module if no program has that name.

    Parameters
    ----------
    output, errors, more : file descriptors; those of `more` are 3, 4, … in the program.
    """
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.connect(os.environ[ADDRESS])
    asked = json.dumps([program, arguments, environment, str(cwd)]).encode()
    channel.send(str(len(asked)).encode())
    socket.send_fds(channel, [asked], [output, errors, *more])
    return Process(int(channel.recv(64)), channel)


def start_server(address: Path) -> "subprocess.Popen[bytes]":
    """Start the process that forks. It ends when its standard input is closed."""
    os.environ[ADDRESS] = str(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(address))
    listener.listen(64)  # requests wait while it imports
    process = subprocess.Popen([sys.executable, __file__, str(listener.fileno())], stdin=subprocess.PIPE, pass_fds=[listener.fileno()])
    listener.close()
    return process


def _fork_on_request(listener: socket.socket) -> Callable[[], Any] | None:
    """Fork for each request. Returns the function to run in the forked process, or None in the original one when the tests have ended."""
    running: dict[int, socket.socket] = {}
    awake, wake = socket.socketpair()
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    selector = selectors.DefaultSelector()
    for item in (listener, sys.stdin, awake):
        selector.register(item, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                return None
            if key.fileobj is awake:
                awake.recv(4096)
                _tell_ended(running)
                continue
            channel, _ = listener.accept()
            size = int(channel.recv(64))
            asked, descriptors, _, _ = socket.recv_fds(channel, size, 16)
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                selector.close()
                for item in (listener, awake, wake, channel, *running.values()):
                    item.detach()  # other files will get their numbers
                program, arguments, environment, cwd = json.loads(asked)
                return _become(program, arguments, environment, cwd, descriptors)
            for descriptor in descriptors:
                os.close(descriptor)
            running[child] = channel
            channel.send(str(child).encode())


def _tell_ended(running: dict[int, socket.socket]) -> None:
    for pid, channel in list(running.items()):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            del running[pid]
            with contextlib.suppress(OSError):  # nobody is waiting
                channel.send(str(os.waitstatus_to_exitcode(status)).encode())
            channel.close()


def _become(program: str, arguments: list[str], environment: dict[str, str], cwd: str, descriptors: list[int]) -> Callable[[], Any]:
    """Set this process up as if it had been started for the program; returns the function to run."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    above = max(*descriptors, nothing) + 1
    kept = [os.dup2(descriptor, above + number) for number, descriptor in enumerate([nothing, *descriptors])]
    for number, descriptor in enumerate(kept):
        os.dup2(descriptor, number, inheritable=True)
    os.closerange(len(kept), 65536)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.argv = [program, *arguments]
    if program not in PROGRAMS:
        sys.path[0] = cwd
        return lambda: runpy.run_module(program, run_name="__main__", alter_sys=True)
    sys.path[0] = str(Path(sys.executable).parent)
    module, name = PROGRAMS[program]
    run: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return run


def _end(code: object) -> NoReturn:
    """End as an interpreter does, but without freeing objects, which would copy the memory pages shared with the parent."""
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def main() -> None:
    """Wait for the first request, import the libraries, then fork."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    ready, _, _ = select.select([listener, sys.stdin], [], [])
    if sys.stdin in ready:  # the tests have ended without starting a program
        return
    for name in LIBRARIES:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()  # a fork drops other threads but keeps their locks
    gc.collect()
    gc.freeze()  # a collection would write to every shared page
    run = _fork_on_request(listener)
    if run is None:
        return
    try:
        code = run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
        code = 1
    _end(code)


if __name__ == "__main__":
    main()
