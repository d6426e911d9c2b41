"""The log of the service on standard error: one JSON object per line, each with the id of its request."""

import logging
from contextvars import ContextVar

from pythonjsonlogger.json import JsonFormatter

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
LOGGER = "credit_scoring"


def configure_logging(level: str) -> logging.Logger:
    """Send the product's log records of this level and above to standard error as JSON."""
    logger = logging.getLogger(LOGGER)
    handler = logging.StreamHandler()
    formatter = JsonFormatter("%(levelname)s %(name)s %(message)s", timestamp=True, rename_fields={"levelname": "level", "name": "logger"})
    handler.setFormatter(formatter)
    handler.addFilter(_add_request_id)
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False
    logger.disabled = False  # BentoML's configuration disables all loggers that existed before it
    return logger


def _add_request_id(record: logging.LogRecord) -> bool:
    record.request_id = REQUEST_ID.get()
    return True
