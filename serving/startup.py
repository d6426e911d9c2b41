"""The start of the service's two processes. The parent checks that the service can run; the worker ends with its parent."""

import ctypes
import gc
import logging
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
from bentoml._internal.configuration.containers import BentoMLContainer

from configs.settings import Settings, SettingsError, settings
from monitoring.decision_log.layout import log_id
from monitoring.decision_log.sink import LogError
from monitoring.decision_log.writer import check_writable
from monitoring.service_log import LOGGER
from serving.bundle import GENERATED, Bundle, BundleError, read_bundle
from serving.contract.asking import NO_REASONS
from serving.contract.record import RecordWriter
from serving.exposure import ExposureError, bound_hosts, check_exposure, guard_binds
from serving.identity.key_ring import KeyRing
from serving.identity.keys import KeysError
from serving.model_store import CHAMPION, find_in_store, has_journal

STARTUP_FAILURE = 3  # uvicorn and gunicorn start no other worker after this exit code
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def check_start(settings: Settings, keys: KeyRing | None, find_bundle: Callable[[], Path]) -> None:
    """Check keys and address, the bundle, the settings that depend on its schema, and that this service alone can write the log.

    Afterwards, this process refuses to bind any address that would need keys that do not exist.

    Raises
    ------
    SystemExit
        A check fails. The message is one sentence.
    """
    try:
        check_exposure([_host()], keys)
        bundle = read_bundle(find_bundle())
        RecordWriter(bundle.features.table, settings.log.raw_fields)
        _check_reasons(bundle, settings)
        if settings.log.durability in ("flush", "fsync"):
            check_writable(settings.log_folder)
        else:
            log_id(settings.log_folder)  # checks that a log from an earlier durability setting can be read
    except (BundleError, ExposureError, KeysError, LogError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None
    guard_binds(partial(_refuse, keys))


def _check_reasons(bundle: Bundle, settings: Settings) -> None:
    language = settings.reasons.language
    if settings.reasons.on_decline and not bundle.reasons:
        raise ValueError(f"reasons.on_decline is set, but {NO_REASONS}")
    if bundle.reasons and language not in bundle.reasons.words:
        raise ValueError(f"reasons.language is {language!r}; the model has words in {', '.join(bundle.reasons.words)}")


def _host() -> str:
    """The address where `bentoml serve` will listen: its option or BENTOML_HOST, else BentoML's configuration."""
    context = click.get_current_context(silent=True)
    given = context.params.get("host") if context else None
    return str(given or BentoMLContainer.http.host.get())


def _refuse(keys: KeyRing | None, host: str) -> None:
    try:
        check_exposure([host], keys)
    except (ExposureError, KeysError) as error:
        raise SystemExit(str(error)) from None


def remarks(settings: Settings, bundle: Bundle, *, packed: bool) -> list[str]:
    """What an operator should know of the model that is served, a sentence each.

    Parameters
    ----------
    packed : whether the model was packed into this bento, so that no promotion chose it here.
    """
    said = []
    if bundle.trained_on == GENERATED:
        said.append("the model was trained on generated data; use its decisions for trying out only")
    if others := bundle.other_settings(settings):
        said.append(f"these settings act at training only: {'; '.join(others)}; train again, or run `credit-scoring decide`")
    if not packed and settings.model.version == CHAMPION and not has_journal(settings.model.name):
        said.append("no model was ever promoted in this store, so its latest is served; `credit-scoring promote` chooses one")
    return said


def check_worker(keys: KeyRing | None) -> None:
    """Check, in the worker process, the keys and the sockets that it inherits.

    Raises
    ------
    SystemExit
        A check fails. The message goes to stderr, and the exit code is STARTUP_FAILURE.
    """
    try:
        check_exposure(bound_hosts(), keys)
    except (ExposureError, KeysError) as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(STARTUP_FAILURE) from None


def pass_interrupts_on() -> None:
    """Make the parent process send its worker a SIGINT (Ctrl-C) too, so that the worker does not drain.

    The worker has a process group of its own, so a terminal reaches only the parent, which sends SIGTERM.
    """
    from circus.sighandler import SysHandler

    def handle_int(handler: SysHandler) -> None:
        for child in psutil.Process().children():
            child.send_signal(signal.SIGINT)
        handler.quit()

    SysHandler.handle_int = handle_int


def settings_or_exit() -> Settings:
    """The settings; exits with the reason if they are wrong."""
    try:
        return settings()
    except SettingsError as error:
        raise SystemExit(str(error)) from None


def bundle_folder(bento: Any, options: Settings) -> Path:
    """The folder of the bundle to serve: the one packed into this bento (None: there is none), else the one that the settings name."""
    if bento is not None:
        tag = bento.info.all_models[0].tag
        return find_in_store(tag.name, tag.version)
    return find_in_store(options.model.name, options.model.version)


def announce(options: Settings, bundle: Bundle, *, packed: bool) -> None:
    """Log that the service is ready, and what may mislead."""
    logger = logging.getLogger(LOGGER)
    for remark in remarks(options, bundle, packed=packed):
        logger.warning(remark)
    logger.info("ready", extra={"model": options.model.name, "version": bundle.version, "trained_on": bundle.trained_on})


def spare_collections() -> None:
    """Collect garbage now, and less often from now on."""
    gc.collect()
    gc.freeze()  # these objects live as long as the process; a collection that scans them takes over 100 ms
    gc.set_threshold(50_000, 20, 20)  # at the default threshold, thousands of connections spend a quarter of the time collecting


def end_with_parent() -> None:
    """Send this process SIGINT if its parent is killed, so that it does not keep the port and the log, not even to drain. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
