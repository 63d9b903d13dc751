"""onnxruntime sessions over sub-graphs of one file, which share its weights instead of holding them once each."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnxviz.errors import MissingDependencyError, OptionError, ProviderError
from onnxviz.source import Array

if TYPE_CHECKING:
    import onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
Providers = Sequence[str | tuple[str, Mapping[str, Any]]] | str | None

PREPACK_LIMIT = 2**28
"""Above this many bytes of weights matrices are not prepacked: a copy per session would cost more than it saves."""

SHARED_FROM = 2**20
"""Weights of at least this many bytes are shared between sessions."""


def runtime() -> Any:
    """The onnxruntime module; MissingDependencyError says which extra to install."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "onnxviz computes with ONNX Runtime, and none is installed: pip install 'onnxviz[cpu]', or "
            "'onnxviz[gpu]' on a machine with an NVIDIA GPU (only one of the two)"
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise MissingDependencyError(
            "the installed onnxruntime is broken (it has no InferenceSession; onnxruntime and onnxruntime-gpu must not "
            "be installed together): uninstall both and install 'onnxviz[cpu]' or 'onnxviz[gpu]'"
        )
    return onnxruntime


def runtime_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's own exceptions, which have no common base."""
    state = runtime().capi.onnxruntime_pybind11_state
    kinds = (getattr(state, name) for name in dir(state))
    return (RuntimeError, *(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)))


def out_of_memory(error: Exception) -> bool:
    """Whether one of onnxruntime's exceptions tells that memory did not suffice, on the host or on a device."""
    said = str(error).lower()
    return any(words in said for words in ("out of memory", "failed to allocate memory", "bad_alloc", "bad allocation"))


def choose_providers(wanted: Providers, *, precision: str = "float32") -> list[tuple[str, dict[str, Any]]]:
    """Provider names with their options, CPU last.

    Args:
        wanted: None takes CUDA where this onnxruntime has it, else the CPU; names may be short (``"cpu"``,
            ``"cuda"``) or onnxruntime's own, each alone or in a pair with its options.
        precision: ``"tf32"`` lets CUDA round float32 products to 10 bits; the others do not.

    Raises:
        ProviderError: this onnxruntime has none of that name.
        OptionError: what was given is neither names nor pairs of names and options.
    """
    available = runtime().get_available_providers()
    if wanted is None:
        wanted = [p for p in (CUDA, CPU) if p in available]
    short = {p.removesuffix("ExecutionProvider").lower(): p for p in available}
    found: dict[str, dict[str, Any]] = {}
    for one in [wanted] if isinstance(wanted, str) else wanted:
        name, options = (one, {}) if isinstance(one, str) else one if _is_pair(one) else (None, {})
        if name is None:
            raise OptionError(f"providers: {one!r} is neither a name nor a pair (name, options), as ('cuda', {{…}})")
        full = short.get(name.lower(), name)
        if full not in available:
            raise ProviderError(
                f"provider {name!r} is not available in this onnxruntime; available: {', '.join(available)}"
                + (". For CUDA install 'onnxviz[gpu]' instead of 'onnxviz[cpu]'" if "cuda" in name.lower() else "")
            )
        found[full] = {**({"use_tf32": int(precision == "tf32")} if full == CUDA else {}), **options}
    found.setdefault(CPU, {})
    return list(found.items())


def _is_pair(given: Any) -> bool:
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str) and isinstance(given[1], Mapping)


def recording(providers: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """The same providers, where CUDA records each run as a CUDA graph."""
    return [(name, {**options, "enable_cuda_graph": 1} if name == CUDA else options) for name, options in providers]


def is_cpu(providers: Sequence[tuple[str, dict[str, Any]]]) -> bool:
    """Whether nothing but the CPU computes."""
    return [name for name, _ in providers] == [CPU]


def available_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _share_arena() -> None:
    """One CPU arena for all sessions: each would keep what its largest run needed, and runs hardly ever coincide."""
    ort = runtime()
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = ort.OrtArenaCfg({"arena_extend_strategy": 1})  # the default doubles what it takes
    ort.create_and_register_allocator(info, as_requested)


@cache
def _malloc_trim() -> Any:
    """glibc's ``malloc_trim``; something that does nothing elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", int) if sys.platform == "linux" else int


class Weights:
    """A file's weights, shared by all sessions made from it; those ``in_memory`` are not what the file has."""

    def __init__(
        self, arrays: Mapping[str, Array], folder: Path | None = None, in_memory: Container[str] = frozenset()
    ) -> None:
        self.arrays = arrays
        self.folder = folder
        self.in_memory = in_memory
        self.nbytes = sum(a.nbytes for a in arrays.values())
        self._values: dict[str, onnxruntime.OrtValue] = {}

    def lend(self, options: onnxruntime.SessionOptions, model: onnx.ModelProto, *, on_cpu: bool) -> None:
        """Give a session these weights: on the CPU it reads the largest where they lie, others it maps from the file.

        Only weights of matrix products and embeddings are shared: onnxruntime rewrites others in place at times (it
        transposes a constant rather than its partner), and would then compute with the shared, unchanged one. Weights
        that are in no file are all shared: they are those of a graph that runs once, as it stands.
        """
        names = [t.name for t in model.graph.initializer if t.name in self.arrays]
        if self.folder is None:
            # The first call tells where the tensors are, the second that the session may use them without a copy.
            options.add_external_initializers(names, [self._value(name) for name in names])
            for name in names:
                options.add_initializer(name, self._value(name))
            return
        fixed = _used_only(model.graph.node, {("Gemm", 0), ("Gemm", 1), ("Gather", 0)}) if on_cpu else set()
        lent = [name for name in names if name in fixed and self.arrays[name].nbytes >= SHARED_FROM]
        for name in lent:
            options.add_initializer(name, self._value(name))
        replaced = [name for name in names if name in self.in_memory and name not in lent]
        options.add_external_initializers(replaced, [self._value(name) for name in replaced])

    def _value(self, name: str) -> onnxruntime.OrtValue:
        if name not in self._values:
            self._values[name] = runtime().OrtValue.ortvalue_from_numpy(self.arrays[name])
        return self._values[name]


def _used_only(nodes: Iterable[onnx.NodeProto], places: set[tuple[str, int]]) -> set[str]:
    """Names that are read nowhere but as these inputs of these operators."""
    inside: set[str] = set()
    outside: set[str] = set()
    for node in nodes:
        for index, name in enumerate(node.input):
            (inside if (node.op_type, index) in places else outside).add(name)
    return inside - outside


def create_session(
    model: onnx.ModelProto,
    weights: Weights,
    providers: Sequence[tuple[str, dict[str, Any]]] = ((CPU, {}),),
    *,
    threads: int | None = None,
    optimize: bool = True,
) -> onnxruntime.InferenceSession:
    """A session for ``model``, whose large weights are external tensors found in ``weights``.

    With ``optimize=False`` the graph is run as it stands, in memory that goes back to the system.

    Raises:
        ProviderError: the first provider could not be started (onnxruntime would go on with the CPU).
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    if optimize:
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    else:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # integer kernels would round otherwise
    if weights.nbytes > PREPACK_LIMIT:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if weights.folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(weights.folder.resolve())
        )
    weights.lend(options, model, on_cpu=is_cpu(providers))
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=list(providers))
    except runtime_errors() as error:
        raise ProviderError(f"onnxruntime {ort.__version__} could not prepare the graph: {error}") from error
    _malloc_trim()(0)  # preparing a session frees as much as it keeps, and glibc would hold on to it
    first, _ = providers[0]
    if first not in session.get_providers():
        raise ProviderError(
            f"{first} could not be started; onnxruntime would have gone on with {session.get_providers()}. Pass "
            f"providers='cpu' to use the CPU, or check the provider's libraries (CUDA and cuDNN versions)"
        )
    return session
