"""The sessions of one file, the least recently used of which goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxviz.bundle import Bundle
from onnxviz.engine.cut import Sketch
from onnxviz.engine.optimizations import Optimization
from onnxviz.engine.overlays import Changes
from onnxviz.engine.session import Weights, create_session
from onnxviz.errors import ProviderError

if TYPE_CHECKING:
    import onnxruntime


@dataclass(frozen=True)
class Prepared:
    """A session, and what is known of its graph.

    Attributes:
        session: onnxruntime's.
        outputs: in order.
        inputs: which feeds it takes.
        changes: what a rewrite did to its backward pass.
        provider: the execution provider that really runs it.
    """

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]
    inputs: frozenset[str]
    changes: Changes
    provider: str


class SessionCache:
    """Sessions by the question that they answer. Safe to use from many threads at once.

    Args:
        bundle: the opened file.
        providers: with their options, see :func:`onnxviz.engine.session.choose_providers`.
        max_sessions: how many are kept.
        optimizations: that rewrite each graph before its session is made.
    """

    def __init__(
        self, bundle: Bundle, providers: Sequence[Any], max_sessions: int, optimizations: Sequence[Optimization]
    ) -> None:
        self.bundle = bundle
        self.providers = providers
        self.max_sessions = max_sessions
        self.optimizations = optimizations
        self._weights: Weights | None = Weights(bundle.weights, bundle.path.parent)
        self._sessions: OrderedDict[Hashable, Prepared] = OrderedDict()
        self._lock = threading.Lock()
        self._building: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, build: Callable[[], tuple[Sketch, Changes]], *, threads: int | None) -> Prepared:
        """The session for a question, from the cache or made now; two threads never make the same one.

        Args:
            key: of the question.
            build: makes its graph.
            threads: of the session; None leaves it to onnxruntime.

        Raises:
            ProviderError: the cache is closed, or onnxruntime cannot make the session.
        """
        key = (key, threads)
        with self._lock:
            if key in self._sessions:
                self._sessions.move_to_end(key)
                return self._sessions[key]
            gate = self._building.setdefault(key, threading.Lock())
        with gate:
            with self._lock:
                if key in self._sessions:
                    return self._sessions[key]
                weights = self._weights
            if weights is None:
                raise ProviderError("this Explainer is closed")
            prepared = self._made(build, weights, threads)
            with self._lock:
                self._sessions[key] = prepared
                self._building.pop(key, None)
                while len(self._sessions) > self.max_sessions:
                    self._sessions.popitem(last=False)
            return prepared

    def _made(self, build: Callable[[], tuple[Sketch, Changes]], weights: Weights, threads: int | None) -> Prepared:
        self.bundle.require_unchanged()
        sketch, changes = build()
        for optimization in self.optimizations:
            optimization.rewrite(sketch)
        session = create_session(sketch.model(), weights, self.providers, threads=threads)
        inputs = frozenset(i.name for i in session.get_inputs())
        return Prepared(session, tuple(sketch.outputs), inputs, changes, session.get_providers()[0])

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def close(self) -> None:
        """Release all sessions and the weights."""
        with self._lock:
            self._sessions.clear()
            self._weights = None
