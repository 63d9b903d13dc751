"""What is taken from an :class:`~onnxviz.Explainer` to be called elsewhere, or again and again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from onnxviz import algorithms
from onnxviz.algorithms.question import Question
from onnxviz.engine.bound import Bound, Recorder
from onnxviz.engine.inputs import opened
from onnxviz.engine.opened import Opened
from onnxviz.engine.targets import Of

if TYPE_CHECKING:
    from onnxviz.export import Exported


class Deployment(Opened):
    """The methods of :class:`~onnxviz.Explainer` that leave something to be run."""

    def bind(
        self,
        x: Any,
        method: str = "saliency",
        target: Any = None,
        *,
        of: Of = "logits",
        output: str | None = None,
        cuda_graph: bool = True,
        **options: Any,
    ) -> Bound:
        """A method that is called again and again on inputs of one shape, its buffers on the device.

        ``bound = ex.bind(x); maps = bound(x).values`` computes what ``ex.saliency(x).values`` is, and leaves it where
        it was computed: ``torch.from_dlpack(maps)`` takes it without a copy. Inputs may be on the device, too. On CUDA
        the run is recorded as a CUDA graph.

        Args:
            x: as :class:`~onnxviz.Explainer` says; the whole batch is one run.
            method: one that is a single run of the graph, such as the gradients and the gradient-based CAMs.
            target: one per sample, or None for the class on top of each call.
            of: see :class:`~onnxviz.Explainer`.
            output: see :class:`~onnxviz.Explainer`.
            cuda_graph: False runs kernel by kernel, as operators that CUDA graphs cannot hold need it.
            **options: of the method.

        Raises:
            OptionError: the method needs several runs, or work on the host.
        """
        recorder = Recorder(self._engine)
        question = Question(recorder, opened(x, self._bundle.manifest)[0], target, output, of)
        return recorder.bound(algorithms.explain_by_name(question, method, options), cuda_graph=cuda_graph)

    def export(
        self,
        path: str | os.PathLike[str],
        method: str | None = "grad_cam",
        target: Any = None,
        *,
        layers: Sequence[str | int] = (),
        pixels: bool = False,
        normalize: bool = False,
        precision: Literal["float32", "float16"] = "float32",
        of: Of = "logits",
        output: str | None = None,
        **options: Any,
    ) -> Exported:
        """A plain ONNX file that explains: standard operators of opset 18 alone, for browsers, phones and servers.

        Its input is ``image`` (or the model's own names, where none is an image), its outputs are ``prediction``, what
        the model gives, and ``map``, what the method gives: the same numbers. It holds what these need, no more.

        Args:
            path: of the file.
            method: one of the gradients, the gradient-based CAMs, ``"smooth_grad"`` or ``"integrated_gradients"``; None
                for the prediction alone. The last two run their variants of the input as further samples of the batch,
                which takes that many times the memory: ``n_samples=10`` is kind to a browser.
            target: as :class:`~onnxviz.Explainer` says, or ``"input"``: the file then takes ``class`` (N,), int64, of
                which a negative one means the class on top.
            layers: whose values are further outputs, under the layers' names.
            pixels: put the preparation of pictures into the file. Its input is then ``pixels`` (N, height, width, 3 or
                4), uint8, RGB with or without alpha, which is not looked at, of the network's size.
            normalize: divide each map by its largest absolute value, as :meth:`Explanation.normalize` does.
            precision: ``"float16"`` halves the file, and computes in halves where the runtime can. Inputs and outputs
                are the same, maps less exact.
            of: see :class:`~onnxviz.Explainer`.
            output: see :class:`~onnxviz.Explainer`.
            **options: of the method.

        Returns:
            Where the file lies, its size in bytes, its inputs and outputs.

        Raises:
            OptionError: the method needs several graphs, an option is impossible, or the file would exceed 2 GiB.
            TargetError: several targets per sample.
            LayerError: as the method.
        """
        from onnxviz.export import export

        return export(
            self._engine, path, method, target, layers=layers, pixels=pixels, normalize=normalize,
            precision=precision, of=of, output=output, options=options,
        )  # fmt: skip
