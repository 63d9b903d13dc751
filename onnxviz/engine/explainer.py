"""The public face of an explainable file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from onnxviz.arguments import checked, checked_methods
from onnxviz.engine.ascents import Ascents
from onnxviz.engine.deployment import Deployment
from onnxviz.engine.reporting import Reporting
from onnxviz.engine.session import Providers
from onnxviz.engine.timing import Timing


@checked_methods
class Explainer(Reporting, Ascents, Deployment, Timing):
    """Explains the network in an explainable ONNX file, without the framework that it came from.

    Shared arguments of the methods:

    * ``x``: a batch as the model takes it, (N, …): a numpy array, or anything that numpy or DLPack reads; a dict by
      input name or a tuple for models with several inputs. Where the file says how pictures are prepared
      (``convert(…, input=onnxviz.ImageInput(…))``) also a picture: a path, an image of Pillow, or uint8 pixels
      (h, w, 3). Maps then have the picture's own size; where it was cropped, what the network did not see is 0, and a
      note says so. Pixels (N, h, w, 3) are a batch. A list of pictures, whose sizes may differ, gives a list of
      results, in order.
    * ``target``: whose score is explained. None is the top-1 of each sample (with a single output unit, the sign of
      the decision); an int one class for all samples; an integer array (N,) one class per sample; an integer array
      (N, T) or (1, T), such as ``[[281, 285]]``, T classes per sample from one forward pass, which gives results an
      axis of targets, (N, T, …); a float array (C,) or like the logits a weighting or mask. Where the output has
      more than two axes a class means that channel summed over the others. Where the file names its classes, a name
      does for an index, alone or in a list: ``"tabby"`` finds ``"tabby, tabby cat"``.
    * ``of``: ``"logits"`` (default: what stands before the last softmax or sigmoid) or ``"probability"``.
    * ``output``: the name of the output, where the model has several; by default the first with a gradient.

    Results are :class:`onnxviz.Explanation`. Wrong arguments raise :class:`onnxviz.errors.InputError`,
    ``TargetError``, ``LayerError`` or ``OptionError``.

    Args:
        path: an explainable file, written by :func:`onnxviz.convert`.
        providers: execution providers, ``"cpu"``, ``"cuda"``, ``"tensorrt"`` (then CUDA; see
            :func:`onnxviz.engine.session.choose_providers`) or onnxruntime's names; None is CUDA where this onnxruntime
            has it, else the CPU. A pair gives one its options: ``[("cuda", {"prefer_nhwc": 1})]``,
            ``[("cuda", {"device_id": 1})]``.
        precision: ``"float32"``; ``"tf32"`` for faster products on CUDA, of factors rounded to 10 bits; ``"float16"``
            for half the memory and, on a GPU, its fastest units: values beyond 65504 become infinite, gradients below
            6e-8 zero. Results come as float32 and say what they were computed in.
        batch_size: samples per run; ``"auto"`` fits them into a fixed amount of memory, on a GPU into a part of what is
            free there when it is first asked. A GPU has two runs at once: one is copied, the other computed.
        max_sessions: how many prepared sub-graphs are kept. They share the weights.
        threads: of onnxruntime; None is its default, one per physical core.
        optimize: which of :data:`onnxviz.engine.optimizations.NAMES` are applied; True is all, False none.
        cache: keep what is prepared for each question in a folder (True: ``<file>.cache`` beside the file), so that the
            next process that asks it starts faster. It takes about twice the weights for each, and may be deleted when
            nobody uses it. On the CPU these are sessions, for TensorRT what it compiled; CUDA alone keeps nothing.

    Raises:
        FileFormatError: the file is not an explainable one.
        ProviderError: a provider is not available.
        MissingDependencyError: no onnxruntime is installed.
    """


@checked
def load(
    path: str | os.PathLike[str],
    *,
    providers: Providers = None,
    precision: str = "float32",
    batch_size: int | Literal["auto"] = "auto",
    max_sessions: int = 8,
    threads: int | None = None,
    optimize: bool | Sequence[str] = True,
    cache: bool | str | os.PathLike[str] = False,
) -> Explainer:
    """Open an explainable file; arguments and errors are those of :class:`Explainer`."""
    return Explainer(
        path,
        providers=providers,
        precision=precision,
        batch_size=batch_size,
        max_sessions=max_sessions,
        threads=threads,
        optimize=optimize,
        cache=cache,
    )
