"""How the two processes of a service begin: the parent refuses with one sentence what could not serve, the worker ends with its parent."""

import ctypes
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
from bentoml._internal.configuration.containers import BentoMLContainer

from configs.settings import Settings
from monitoring.decision_log.layout import log_id
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import check_writable
from serving.bundle import BundleError, read_bundle
from serving.contract.record import RecordWriter
from serving.exposure import ExposureError, bound_hosts, check_exposure, guard_binds
from serving.keys import KeyRing, KeysError

STARTUP_FAILURE = 3  # the exit code by which uvicorn and gunicorn know that another worker would fail too
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def check_start(settings: Settings, keys: KeyRing | None, find_bundle: Callable[[], Path]) -> None:
    """Check keys and the address, the bundle, the settings that depend on its schema, and that the log can be written, by no other process.

    From then on this process binds no address that the keys do not allow, whoever names it.

    Raises
    ------
    SystemExit
        One of them does not hold.
    """
    try:
        check_exposure([_host()], keys)
        RecordWriter(read_bundle(find_bundle()).features.table, settings.log.raw_fields)
        if settings.log.durability in ("flush", "fsync"):
            check_writable(settings.log_folder)
        else:
            log_id(settings.log_folder)  # what another durability left there is to be read
    except (BundleError, ExposureError, KeysError, LogError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    guard_binds(partial(_refuse, keys))


def _host() -> str:
    """Where `bentoml serve` will listen: its option or BENTOML_HOST, else BENTOML_CONFIG, BENTOML_CONFIG_OPTIONS or the service's own."""
    context = click.get_current_context(silent=True)
    given = context.params.get("host") if context else None
    return str(given or BentoMLContainer.http.host.get())


def _refuse(keys: KeyRing | None, host: str) -> None:
    try:
        check_exposure([host], keys)
    except (ExposureError, KeysError) as error:
        raise SystemExit(str(error)) from None


def check_worker(keys: KeyRing | None) -> None:
    """Check, in the process that serves, the keys and the sockets that it was given.

    Raises
    ------
    SystemExit
        One of them does not hold.
    """
    try:
        check_exposure(bound_hosts(), keys)
    except (ExposureError, KeysError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(STARTUP_FAILURE) from None


def end_with_parent() -> None:
    """Have this process end as by SIGTERM when its parent is killed, so that none is left with the port and the log; on Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
