"""Parts stored by a thread, beside the computing of the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from onnxviz.dataset.parts import Part

WAITING = 2
"""How many parts wait to be stored at most."""


class Writer:
    """Stores parts in order; as a context manager, it is left once all are stored.

    Args:
        write: stores one.
    """

    def __init__(self, write: Callable[[Part], None]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(1, "onnxviz-write")
        self._waiting: deque[Future[None]] = deque()

    def put(self, part: Part) -> None:
        """Store a part soon; raises what stopped an earlier one, such as OSError on a full disk."""
        if len(self._waiting) >= WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._write, part))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for waiting in self._waiting:
                    waiting.result()
        finally:
            self._pool.shutdown(wait=True)  # what was explained is stored, whatever stopped the rest
