"""onnxruntime sessions over sub-graphs of one file, which share its weights instead of holding them once each."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnxviz.errors import MissingDependencyError, OnnxvizWarning, OptionError, ProviderError
from onnxviz.limits import most_bytes

if TYPE_CHECKING:
    import onnxruntime

    from onnxviz.engine.weights import Weights

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
Providers = Sequence[str | tuple[str, Mapping[str, Any]]] | str | None

OLDEST = (1, 30)
"""The first onnxruntime that computes what the tests expect. Earlier ones are wrong without a word: up to 1.26 they
take one body for all overloads of a function, up to 1.27 gradients of masked LSTMs and GRUs are wrong, in 1.28 RNNs of
rare activations, in 1.29 the steps of an ascent."""

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

LARGEST_FOLDED = "optimization.constant_folding_max_output_size_in_bytes"

FOLDED = 2**24
"""Bytes of a constant that a graph may compute beforehand, where its weights are smaller: the rest is computed when it
is run, in memory that is bounded."""

PREPACK_LIMIT = 2**28
"""Above this many bytes of weights matrices are not prepacked: a copy per session would cost more than it saves."""


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
    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < OLDEST:
        raise MissingDependencyError(
            f"onnxviz needs onnxruntime {'.'.join(map(str, OLDEST))} or later, and {onnxruntime.__version__} is "
            f"installed: pip install --upgrade onnxruntime (or onnxruntime-gpu, where that is what is installed)"
        )
    return onnxruntime


def runtime_errors() -> tuple[type[Exception], ...]:
    """onnxruntime's own exceptions, which have no common base."""
    state = runtime().capi.onnxruntime_pybind11_state
    kinds = (getattr(state, name) for name in dir(state))
    return (RuntimeError, *(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Exception)))


_OUT_OF_MEMORY = ("out of memory", "failed to allocate", "bad_alloc", "bad allocation", "available memory of")


def out_of_memory(error: Exception) -> bool:
    """Whether one of onnxruntime's exceptions tells that memory did not suffice, on the host or on a device."""
    said = str(error).lower()
    return any(words in said for words in _OUT_OF_MEMORY)


def choose_providers(
    wanted: Providers, *, precision: str = "float32", engines: Path | None = None
) -> list[tuple[str, dict[str, Any]]]:
    """Provider names with their options, CPU last.

    ``"tensorrt"`` is TensorRT, then CUDA for what it does not take. It compiles each graph for each new shape, which
    takes minutes and pays where the same shapes come thousands of times: give ``batch_size`` as many samples as each
    call has. It chooses its kernels itself, with TF32 among them whatever the precision, so results are less exact.

    Args:
        wanted: None takes CUDA where this onnxruntime has it, else the CPU; names may be short (``"cpu"``,
            ``"cuda"``, ``"tensorrt"``) or onnxruntime's own, each alone or in a pair with its options. A list that ends
            with the CPU, ``["cuda", "cpu"]``, asks to go on without those before it that cannot be started.
        precision: ``"tf32"`` lets CUDA round float32 products to 10 bits, ``"float16"`` lets TensorRT compute in
            halves; the others do not.
        engines: the folder in which TensorRT keeps what it compiled, and the times that it measured.

    Raises:
        ProviderError: this onnxruntime has none of that name.
        OptionError: what was given is neither names nor pairs of names and options.
    """
    if wanted != "cpu":
        _load_cuda()
    available = runtime().get_available_providers()
    if wanted is None:
        wanted = CUDA if CUDA in available else CPU
    short = {p.removesuffix("ExecutionProvider").lower(): p for p in available}
    defaults = {CUDA: {"use_tf32": int(precision == "tf32")}, TENSORRT: _tensorrt(precision, engines)}
    found: dict[str, dict[str, Any]] = {}
    for one in [wanted] if isinstance(wanted, str) else _startable(wanted, short):
        name, options = _named(one, short)
        found[name] = {**defaults.get(name, {}), **options}
    if TENSORRT in found and CPU not in found and CUDA in available:
        found.setdefault(CUDA, defaults[CUDA] | _of_same_device(found[TENSORRT]))
    found.setdefault(CPU, {})
    return list(found.items())


def _startable(wanted: Sequence[Any], short: Mapping[str, str]) -> list[Any]:
    """Of a list that ends with the CPU, what can be started: to name it behind others asks to fall back on it."""
    names = [one if isinstance(one, str) else one[0] if _is_pair(one) else "" for one in wanted]
    full = [short.get(name.lower(), name) for name in names]
    if CPU not in full[1:]:
        return list(wanted)
    kept = []
    for one, name in zip(wanted, full, strict=True):
        if name in ("", CPU) or (name in short.values() and _starts(name)):
            kept.append(one)
        else:
            said = "could not be started" if name in short.values() else "is not in this onnxruntime"
            warnings.warn(f"{name} {said}: going on without it, as asked", OnnxvizWarning, stacklevel=2)
    return kept


@cache
def _starts(provider: str) -> bool:
    """Whether onnxruntime runs a graph of one node with a provider."""
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([node], "one", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    try:
        session = runtime().InferenceSession(model.SerializeToString(), providers=[provider, CPU])
    except runtime_errors():
        return False
    return provider in session.get_providers()


def _named(one: Any, short: Mapping[str, str]) -> tuple[str, Mapping[str, Any]]:
    """A provider's full name, and its options."""
    name, options = (one, {}) if isinstance(one, str) else one if _is_pair(one) else (None, {})
    if name is None:
        raise OptionError(f"providers: {one!r} is neither a name nor a pair (name, options), as ('cuda', {{…}})")
    full = short.get(name.lower(), name)
    if full not in short.values():
        raise ProviderError(
            f"provider {name!r} is not available in this onnxruntime; available: {', '.join(short.values())}"
            + (". For CUDA install 'onnxviz[gpu]' instead of 'onnxviz[cpu]'" if "cuda" in name.lower() else "")
        )
    return full, options


@cache
def _load_cuda() -> None:
    """CUDA's libraries that pip has installed, which an onnxruntime for GPUs finds only once they are loaded."""
    ort = runtime()
    if getattr(ort, "cuda_version", ""):
        with redirect_stdout(StringIO()):  # what is missing is told when it is needed
            ort.preload_dlls()


def _tensorrt(precision: str, engines: Path | None) -> dict[str, Any]:
    options: dict[str, Any] = {"trt_fp16_enable": True} if precision == "float16" else {}
    if engines is not None:
        options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(engines)}
        options |= {"trt_timing_cache_enable": True, "trt_timing_cache_path": str(engines)}
    return options


def _of_same_device(options: Mapping[str, Any]) -> dict[str, Any]:
    return {"device_id": options["device_id"]} if "device_id" in options else {}


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
def share_arena() -> None:
    """One CPU arena for all sessions: each would keep what its largest run needed, and runs hardly ever coincide."""
    ort = runtime()
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    # The default doubles what it takes; what takes too much is refused, before the system ends the process for it.
    as_requested = ort.OrtArenaCfg({"arena_extend_strategy": 1, "max_mem": most_bytes()})
    ort.create_and_register_allocator(info, as_requested)


@cache
def _malloc_trim() -> Any:
    """glibc's ``malloc_trim``; something that does nothing elsewhere."""
    return getattr(ctypes.CDLL(None), "malloc_trim", int) if sys.platform == "linux" else int


def create_session(
    model: onnx.ModelProto,
    weights: Weights,
    providers: Sequence[tuple[str, dict[str, Any]]] = ((CPU, {}),),
    *,
    threads: int | None = None,
    optimize: bool = True,
    copy: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session for ``model``, whose large weights are external tensors found in ``weights``.

    With ``optimize=False`` the graph is run as it stands, in memory that goes back to the system. ``copy`` is a file
    that is written: the graph as onnxruntime's optimiser left it, with all weights beside it in ``<name>.data``.

    Raises:
        ProviderError: the first provider could not be started (onnxruntime would go on with the CPU).
    """
    options = session_options(weights, threads=threads, arena=optimize)
    if not is_cpu(providers):
        options.log_severity_level = 3  # why a provider does not start is logged only
    if not optimize:
        options.graph_optimization_level = runtime().GraphOptimizationLevel.ORT_DISABLE_ALL
    if weights.folder is not None:
        options.add_session_config_entry(WEIGHTS_FOLDER, str(weights.folder.resolve()))
    if copy is not None:
        options.optimized_model_filepath = str(copy)
        entry = "session.optimized_model_external_initializers_"
        options.add_session_config_entry(f"{entry}file_name", f"{copy.name}.data")
        options.add_session_config_entry(f"{entry}min_size_in_bytes", "1024")
    weights.lend(options, model, on_cpu=is_cpu(providers))
    distrust_pools(options, model)
    return started(model.SerializeToString(), options, providers)


def session_options(weights: Weights, *, threads: int | None, arena: bool = True) -> onnxruntime.SessionOptions:
    """What holds for all sessions with these weights; without ``arena`` memory goes back to the system."""
    options = runtime().SessionOptions()
    options.log_severity_level = 4  # what stops a run is raised
    if threads is not None:
        options.intra_op_num_threads = threads
    if arena:
        share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    else:
        options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry(LARGEST_FOLDED, str(max(FOLDED, weights.nbytes)))
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # integer kernels would round otherwise
    if weights.nbytes > PREPACK_LIMIT:
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def distrust_pools(options: onnxruntime.SessionOptions, model: onnx.ModelProto) -> None:
    """Give each value memory of its own in a graph with a pool that has pads and rounds up.

    What onnxruntime infers of its size contradicts what it computes, and it would reuse the memory of other sizes.
    """
    for node in model.graph.node:
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute if a.name in {"ceil_mode", "pads"}}
        if given.get("ceil_mode") and any(given.get("pads", ())):
            options.enable_mem_reuse = False


def started(
    graph: bytes, options: onnxruntime.SessionOptions, providers: Sequence[tuple[str, dict[str, Any]]]
) -> onnxruntime.InferenceSession:
    """The session; ProviderError if onnxruntime does not take the graph, or does not start the first provider."""
    ort = runtime()
    try:
        session = ort.InferenceSession(graph, options, providers=list(providers))
    except runtime_errors() as error:
        raise _unprepared(error) from error
    _malloc_trim()(0)  # preparing a session frees as much as it keeps, and glibc would hold on to it
    first, _ = providers[0]
    if first not in session.get_providers():
        raise ProviderError(
            f"{first} could not be started; onnxruntime would have gone on with {session.get_providers()}. Pass "
            f"providers='cpu' to use the CPU ([…, 'cpu'] to fall back on it), or "
            f"check the provider's libraries (CUDA and cuDNN versions)"
        )
    return session


def _unprepared(error: Exception) -> ProviderError:
    return ProviderError(f"onnxruntime {runtime().__version__} could not prepare the graph: {error}")
