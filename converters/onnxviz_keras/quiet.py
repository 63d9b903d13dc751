"""TensorFlow and tf2onnx report their own affairs; the user's terminal is spared that."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.RLock()
LOGGERS = ("tensorflow", "tf2onnx", "absl", "h5py")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, warnings and log records of TensorFlow and its companions are dropped.

    What they log as an error, they raise as well, or leave in the graph, where it is found. Only one thread is inside
    at a time: what is set here and by those who work quietly (log levels, the wrapped ``Layer.__call__``, functions
    that run eagerly) is the process's.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = [logger.level for logger in loggers]
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Inside, if TensorFlow was not imported before, nothing reaches the process's standard error: TensorFlow's C++
    writes there before it can be told not to. Python's own errors are raised as always.
    """
    if "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink, quiet():
        terminal = os.dup(2)
        try:
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
