"""The sessions of one file, the least recently used of which goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onnxviz.bundle import Bundle
from onnxviz.engine.cut import Sketch
from onnxviz.engine.half import in_half
from onnxviz.engine.optimizations import Optimization
from onnxviz.engine.overlays import Changes
from onnxviz.engine.session import create_session, recording
from onnxviz.engine.stored import Store
from onnxviz.engine.weights import Weights
from onnxviz.errors import ProviderError
from onnxviz.soundness import all_nodes

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
        loops: whether a loop decides how long a run takes.
    """

    session: onnxruntime.InferenceSession
    outputs: tuple[str, ...]
    inputs: frozenset[str]
    changes: Changes
    provider: str
    loops: bool = False


class SessionCache:
    """Sessions by the question that they answer. Safe to use from many threads at once.

    Args:
        bundle: the opened file.
        providers: with their options, see :func:`onnxviz.engine.session.choose_providers`.
        max_sessions: how many are kept.
        optimizations: that rewrite each graph before its session is made.
        half: whether graphs are computed in float16.
        store: where prepared sessions are kept for other processes.
    """

    def __init__(
        self,
        bundle: Bundle,
        providers: Sequence[tuple[str, dict[str, Any]]],
        max_sessions: int,
        optimizations: Sequence[Optimization],
        *,
        half: bool = False,
        store: Store | None = None,
    ) -> None:
        self.bundle = bundle
        self.providers = providers
        self.max_sessions = max_sessions
        self.optimizations = optimizations
        self.half, self.store = half, store
        self._weights: Weights | None = Weights(bundle.weights, bundle.path.parent, bundle.replaced)
        self._sessions: OrderedDict[Hashable, Prepared] = OrderedDict()
        self._lock = threading.Lock()
        self._building: dict[Hashable, threading.Lock] = {}

    def get(
        self,
        key: Hashable,
        build: Callable[[], tuple[Sketch, Changes]],
        *,
        threads: int | None,
        cuda_graph: bool = False,
    ) -> Prepared:
        """The session for a question, from the cache or made now; two threads never make the same one.

        Args:
            key: of the question.
            build: makes its graph.
            threads: of the session; None leaves it to onnxruntime.
            cuda_graph: let CUDA record its runs, whose buffers must stay where they are.

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
            prepared = self._made(build, weights, threads, cuda_graph=cuda_graph)
            with self._lock:
                self._sessions[key] = prepared
                self._building.pop(key, None)
                while len(self._sessions) > self.max_sessions:
                    self._sessions.popitem(last=False)
            return prepared

    def _made(
        self, build: Callable[[], tuple[Sketch, Changes]], weights: Weights, threads: int | None, *, cuda_graph: bool
    ) -> Prepared:
        self.bundle.require_unchanged()
        sketch, changes = build()
        for optimization in self.optimizations:
            optimization.rewrite(sketch)
        providers = recording(self.providers) if cuda_graph else self.providers
        model = sketch.model()
        if self.half:
            in_half(model)
        prepare = self.store.session if self.store else create_session
        session = prepare(model, weights, providers, threads=threads)
        inputs = frozenset(i.name for i in session.get_inputs())
        nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
        loops = any(node.op_type == "Loop" for node in all_nodes(nodes))
        return Prepared(session, tuple(sketch.outputs), inputs, changes, session.get_providers()[0], loops)

    @property
    def optimization_names(self) -> list[str]:
        """Of those that are applied."""
        return [one.name for one in self.optimizations]

    def __len__(self) -> int:
        with self._lock:
            return len(self._sessions)

    def close(self) -> None:
        """Release all sessions and the weights."""
        with self._lock:
            self._sessions.clear()
            self._weights = None
