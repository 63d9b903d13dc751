"""One network, in the forms in which the contestants take it; each is made when it is first asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.networks import NETWORKS, Network, build

if TYPE_CHECKING:
    from torch import nn

METHODS = ("saliency", "guided_backprop", "grad_cam", "smooth_grad", "integrated_gradients")
ON_DEVICE = METHODS[:3]
"""Those whose answer is one run of one graph, so that it can be left on the device."""
PRECISIONS = ("float32", "tf32", "float16")


@dataclass(frozen=True)
class Setup:
    """What holds for both sides.

    Attributes:
        provider: ``"cpu"`` or ``"cuda"``.
        options: of ONNX Runtime's execution provider, as ``("prefer_nhwc", "1")``; for ours and the forward pass.
        precision: one of ``PRECISIONS``; on the CPU float32.
        transfer: whether input and result lie on the host; without, both stay on the device, in buffers that are bound
            once.
        threads: of each library.
        training: the interpreter of an environment with ONNX Runtime's training build.
    """

    provider: str = "cpu"
    precision: str = "float32"
    transfer: bool = True
    threads: int = 2
    training: str | None = None
    options: tuple[tuple[str, str], ...] = ()

    @property
    def providers(self) -> list[tuple[str, dict[str, str]]]:
        """As ``ov.load`` takes them."""
        return [(self.provider, dict(self.options))]

    @property
    def dtype(self) -> str:
        """Of weights and activations."""
        return "float16" if self.precision == "float16" else "float32"

    def torch(self) -> None:
        """Make PyTorch keep to it; its convolutions are chosen by trial, as ONNX Runtime's are."""
        import torch

        torch.set_num_threads(self.threads)
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = self.precision == "tf32"

    def synchronize(self) -> None:
        """Wait for what was left on the device."""
        if self.provider == "cuda":
            import torch

            torch.cuda.synchronize()

    def tensorflow(self) -> None:
        """Make TensorFlow keep to it, before it does anything; it takes of a GPU's memory what it needs."""
        import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

        import tensorflow as tf  # isort: skip

        if tf.config.threading.get_intra_op_parallelism_threads() != self.threads:
            tf.config.threading.set_intra_op_parallelism_threads(self.threads)
        tf.get_logger().setLevel("ERROR")  # it warns of functions that are traced for each shape, as they should be
        tf.config.experimental.enable_tensor_float_32_execution(self.precision == "tf32")
        for gpu in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(gpu, True)  # noqa: FBT003 - its signature


@dataclass(frozen=True)
class Question:
    """What is asked of all.

    Attributes:
        method: one of ``METHODS``.
        x: the batch, (N, C, …) float32, standard normal.
        classes: which is explained, of each sample.
        samples: gradients per input of smooth_grad and integrated_gradients.
        noise: of smooth_grad: σ as a part of the input's range.
        chunk: inputs per pass of libraries that leave this to their user.
    """

    method: str
    x: np.ndarray
    classes: np.ndarray
    samples: int = 16
    noise: float = 0.15
    chunk: int = 32

    @staticmethod
    def input(shape: tuple[int, ...], batch: int) -> np.ndarray:
        """The batch of that size, always the same."""
        return np.random.default_rng(0).standard_normal((batch, *shape)).astype(np.float32)


class Subject:
    """A network.

    Args:
        name: one of ``NETWORKS``.
        folder: where its files are written; those that lie there are used.
        setup: for both sides.
    """

    def __init__(self, name: str, folder: Path, setup: Setup) -> None:
        self.name, self.folder, self.setup = name, folder, setup
        self.conversions: dict[str, dict[str, float]] = {}
        """File → seconds that its conversion took, and its bytes."""

    @property
    def network(self) -> Network:
        """What is known of it."""
        return NETWORKS[self.name]

    @cached_property
    def model(self) -> nn.Module:
        """In PyTorch, on its device, in its precision; the weights require no gradient."""
        import torch

        self.setup.torch()
        model = build(self.name).requires_grad_(requires_grad=False)
        model = model.to(self.setup.provider, getattr(torch, self.setup.dtype))
        images = len(self.network.shape) == 3
        fast = torch.channels_last if self.setup.dtype == "float16" and images else torch.preserve_format
        return model.to(memory_format=fast)  # the layout of tensor cores

    @property
    def explainable(self) -> Path:
        """The explainable file that was born in PyTorch."""
        return self._converted("explainable", lambda: (build(self.name), {"example": self._example}))

    @property
    def explainable_twin(self) -> Path:
        """The explainable file that was born in Keras."""

        def built() -> tuple[Any, dict[str, Any]]:
            assert self.network.twin is not None
            self.setup.tensorflow()
            return self.network.twin.build(), {}

        return self._converted("twin", built)

    @property
    def plain(self) -> Path:
        """The network in its precision as ``torch.onnx.export`` writes it, without taps."""
        path = self.folder / f"{self.name}_{self.setup.dtype}.onnx"
        if not path.exists():
            import torch

            from onnxviz_torch.quiet import quiet

            dtype = getattr(torch, self.setup.dtype)
            batch = ({0: torch.export.Dim("N")},)
            with quiet():
                torch.onnx.export(
                    build(self.name).to(dtype), (self._example.to(dtype),), path, dynamo=True, dynamic_shapes=batch,
                    opset_version=18, verbose=False,
                )  # fmt: skip
        return path

    def described(self) -> dict[str, Any]:
        """What another process needs to make the same."""
        return {"name": self.name, "folder": str(self.folder), "setup": asdict(self.setup)}

    @classmethod
    def of(cls, described: dict[str, Any]) -> Subject:
        """The subject that :meth:`described` tells of."""
        setup = described["setup"]
        options = tuple((name, value) for name, value in setup["options"])  # JSON has lists alone
        return cls(described["name"], Path(described["folder"]), Setup(**{**setup, "options": options}))

    @property
    def _example(self) -> Any:
        import torch

        return torch.from_numpy(Question.input(self.network.shape, 2))

    def _converted(self, kind: str, built: Callable[[], tuple[Any, dict[str, Any]]]) -> Path:
        path = self.folder / f"{self.name}_{kind}.onnx"
        if not path.exists():
            import onnxviz as ov

            model, options = built()
            start = time.perf_counter()
            ov.convert(model, path, quiet=True, **options)
            seconds = time.perf_counter() - start
            size = sum(file.stat().st_size for file in path.parent.glob(f"{path.stem}.*"))
            self.conversions[kind] = {"seconds": seconds, "bytes": size}
        return path
