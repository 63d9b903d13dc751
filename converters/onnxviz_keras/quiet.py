"""TensorFlow and tf2onnx report their own affairs; the user's terminal is spared that."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

_LOCK = threading.RLock()
LOGGERS = ("tensorflow", "tf2onnx", "absl", "h5py")

_TENSORFLOW_LINE = re.compile(
    rb"[IWEF]\d{4} [\d:.]+ +\d+ [\w./]+:\d+\] "
    rb"|[\d-]+ [\d:.]+: [IWEF] \S+:\d+\] "
    rb"|WARNING: All log messages before absl::InitializeLog"
    rb"|To enable the following instructions: "
)
"""How the lines begin that TensorFlow's C++ writes."""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, warnings and log records of TensorFlow and its companions are dropped.

    What they log as an error, they raise as well, or leave in the graph, where it is found. Only one thread is inside
    at a time: what is set here and by those who work quietly (log levels, the wrapped ``Layer.__call__``, functions
    that run eagerly) is the process's.
    """
    loggers = [logging.getLogger(name) for name in LOGGERS]
    with _LOCK, warnings.catch_warnings(), _without_lines_of_tensorflow():
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
def _without_lines_of_tensorflow() -> Iterator[None]:
    """Inside, what is written to the process's standard error is held back; afterwards the rest of it is passed on.

    TensorFlow's C++ writes there past Python, whatever Python is told, and so may anybody else meanwhile.
    """
    try:
        terminal = os.dup(2)
    except OSError:  # there is none
        yield
        return
    with tempfile.TemporaryFile() as held:
        _flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(terminal, 2)
            held.seek(0)
            for line in held:
                if not _TENSORFLOW_LINE.match(line):
                    os.write(terminal, line)
            os.close(terminal)


def _flush() -> None:
    if sys.stderr is not None:  # as in a program without a console
        sys.stderr.flush()
