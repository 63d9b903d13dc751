"""Who takes part: onnxviz, the network's own forward pass, and the same methods in PyTorch and TensorFlow.

All take numpy arrays and return numpy arrays. Captum, pytorch-grad-cam and Keras take part where they are installed;
each method's published formula in plain PyTorch always does.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional

import onnxviz as ov
from benchmarks.measure import Array, Contestants
from benchmarks.networks import NETWORKS, build
from onnxviz_torch.quiet import quiet

if TYPE_CHECKING:
    from benchmarks.keras_side import Twin

Classes = npt.NDArray[np.int64]

METHODS = ("saliency", "guided_backprop", "grad_cam")


@dataclass(frozen=True)
class Prepared:
    """One network, ready on both sides.

    Attributes:
        model: in PyTorch, on its device.
        layer: the module that Grad-CAM looks at, and its name.
        explainer: its explainable file.
        forward: its plain export.
        twin: the same in Keras, where there is such a twin and Keras is installed.
    """

    model: nn.Module
    layer: tuple[str, nn.Module]
    explainer: ov.Explainer
    forward: onnxruntime.InferenceSession
    twin: Twin | None = None


def prepare(name: str, folder: Path, *, provider: str, threads: int) -> Prepared:
    """Build, convert and export a network; both sides get the same number of threads."""
    network, model = NETWORKS[name], build(name)
    example = torch.randn(2, *network.shape, generator=torch.Generator().manual_seed(0))
    ov.convert(model, folder / f"{name}.onnx", example=example)
    explainer = ov.load(folder / f"{name}.onnx", providers=provider, threads=threads)
    forward = plain_session(model, example, folder / f"{name}_plain.onnx", provider=provider, threads=threads)
    model = model.to(provider).requires_grad_(requires_grad=False)
    twin = None
    if network.twin is not None and importlib.util.find_spec("keras"):
        from benchmarks import keras_side

        twin = keras_side.prepare(network.twin, folder / f"{name}_keras.onnx", provider=provider, threads=threads)
    return Prepared(model, (network.layer, model.get_submodule(network.layer)), explainer, forward, twin)


def plain_session(
    model: nn.Module, example: Tensor, path: Path, *, provider: str, threads: int
) -> onnxruntime.InferenceSession:
    """The network as ``torch.onnx.export`` writes it, without taps, in a session with default options."""
    with quiet():
        batch = ({0: torch.export.Dim("N")},)
        torch.onnx.export(model, (example,), path, dynamo=True, dynamic_shapes=batch, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    cuda = [("CUDAExecutionProvider", {"use_tf32": 0})] if provider == "cuda" else []
    return onnxruntime.InferenceSession(path, options, providers=[*cuda, "CPUExecutionProvider"])


def contestants(prepared: Prepared, method: str, x: Array, classes: Classes) -> Contestants:
    """Name → what is timed; the first is ours, the second the forward pass."""
    name, _ = prepared.layer
    options = {"layer": name} if method == "grad_cam" else {}
    (source,) = prepared.forward.get_inputs()

    def ours() -> Array:
        return prepared.explainer.explain(x, method, classes, **options).values

    def forward() -> Array:
        (logits,) = prepared.forward.run(None, {source.name: x})
        return np.asarray(logits)

    found: dict[str, Callable[[], Array]] = {"onnxviz": ours, "forward": forward}
    for other, function in OTHERS[method].items():
        if takes_part(other, method, prepared.model):
            found[other] = partial(function, prepared, x, classes)
    if prepared.twin is not None:
        from benchmarks import keras_side

        found |= keras_side.contestants(prepared.twin, method, x, classes)
    return found


def takes_part(other: str, method: str, model: nn.Module) -> bool:
    """Whether a library is installed, and applies its method to all rectifiers of the model."""
    needs = {"captum": ("captum",), "pytorch-grad-cam": ("pytorch_grad_cam", "ttach", "torchvision")}
    if any(importlib.util.find_spec(package) is None for package in needs.get(other, ())):
        return False
    rewrites = other == "captum" and method == "guided_backprop"
    return not (rewrites and any(isinstance(module, nn.ReLU6) for module in model.modules()))


# ----- the same in PyTorch -----


def scores_of(model: nn.Module, x: Tensor, classes: Classes) -> Tensor:
    """Σ over the samples of the score of each one's class."""
    index = torch.from_numpy(classes).to(x.device)
    return model(x).gather(1, index[:, None]).sum()


def leaf(prepared: Prepared, x: Array) -> Tensor:
    """The input on the model's device, to differentiate by."""
    return torch.from_numpy(x).to(next(prepared.model.parameters()).device).requires_grad_()


def torch_gradient(prepared: Prepared, x: Array, classes: Classes) -> Tensor:
    """∂S/∂x by autograd."""
    tensor = leaf(prepared, x)
    return torch.autograd.grad(scores_of(prepared.model, tensor, classes), tensor)[0]


def torch_saliency(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """Largest absolute gradient of the channels (Simonyan 2013)."""
    return to_numpy(torch_gradient(prepared, x, classes).abs().amax(1))


def torch_guided_backprop(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """The gradient, with what a rectifier passes back clipped at zero (Springenberg 2015)."""
    with guided(prepared.model):
        return to_numpy(torch_gradient(prepared, x, classes))


@contextmanager
def guided(model: nn.Module) -> Iterator[None]:
    """While it is open, rectifiers pass back what is positive."""

    def positive(_module: nn.Module, passed: Any, _received: Any) -> tuple[Tensor, ...]:
        return (passed[0].clamp(min=0),)

    rectifiers = [module for module in model.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    handles = [module.register_full_backward_hook(positive) for module in rectifiers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def torch_grad_cam(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """ReLU(Σ_k α_k A_k), bilinearly resized (Selvaraju 2017)."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        kept.append(output.requires_grad_())  # the network's weights need no gradient, so the chain starts here

    handle = prepared.layer[1].register_forward_hook(keep)
    tensor = torch.from_numpy(x).to(next(prepared.model.parameters()).device)
    score = scores_of(prepared.model, tensor, classes)
    handle.remove()
    weights = torch.autograd.grad(score, kept[0])[0].mean((2, 3), keepdim=True)
    heat = (weights * kept[0]).sum(1, keepdim=True).relu()
    return to_numpy(functional.interpolate(heat, size=tensor.shape[2:], mode="bilinear")[:, 0])


def captum_saliency(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """Captum's, with the maximum over the channels that it leaves to its user."""
    from captum.attr import Saliency

    tensor = leaf(prepared, x)
    return to_numpy(Saliency(prepared.model).attribute(tensor, target=torch.from_numpy(classes)).amax(1))


def captum_guided_backprop(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """Captum's."""
    from captum.attr import GuidedBackprop

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it sets hooks
        tensor = leaf(prepared, x)
        return to_numpy(GuidedBackprop(prepared.model).attribute(tensor, target=torch.from_numpy(classes)))


def library_grad_cam(prepared: Prepared, x: Array, classes: Classes) -> Array:
    """pytorch-grad-cam's, which are scaled to 0 … 1. It needs weights that require a gradient."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    prepared.model.requires_grad_()
    with GradCAM(prepared.model, [prepared.layer[1]]) as cam:
        maps = cam(torch.from_numpy(x), [ClassifierOutputTarget(index) for index in classes.tolist()])
    prepared.model.requires_grad_(requires_grad=False).zero_grad()
    return np.asarray(maps, np.float32)


def to_numpy(tensor: Tensor) -> Array:
    """On the host, which waits for the device."""
    return np.asarray(tensor.detach().cpu().numpy(), np.float32)


OTHERS: dict[str, dict[str, Callable[[Prepared, Array, Classes], Array]]] = {
    "saliency": {"torch": torch_saliency, "captum": captum_saliency},
    "guided_backprop": {"torch": torch_guided_backprop, "captum": captum_guided_backprop},
    "grad_cam": {"torch": torch_grad_cam, "pytorch-grad-cam": library_grad_cam},
}
