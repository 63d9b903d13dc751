"""Where sessions compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnxviz.engine.cuda import Cuda, cuda
from onnxviz.engine.session import CUDA, TENSORRT, runtime


@dataclass(frozen=True)
class Device:
    """Where the first of the providers computes.

    Attributes:
        provider: the name of the first, which computes what it can.
        kind: where values lie, as onnxruntime calls it: ``"cpu"`` or ``"cuda"``.
        index: of several of its kind.
        cuda: CUDA's runtime there; None on the CPU, and where it cannot be reached.
    """

    provider: str
    kind: str = "cpu"
    index: int = 0
    cuda: Cuda | None = None

    @classmethod
    def of(cls, providers: Sequence[tuple[str, dict[str, Any]]]) -> Device:
        """Of providers as :func:`~onnxviz.engine.session.choose_providers` gives them."""
        name, options = providers[0]
        if name not in {CUDA, TENSORRT}:
            return cls(name)
        index = int(options.get("device_id", 0))
        return cls(name, "cuda", index, cuda(getattr(runtime(), "cuda_version", ""), index))

    @property
    def is_gpu(self) -> bool:
        """Whether inputs are copied there, and results back."""
        return self.provider in {CUDA, TENSORRT}
