"""Class activation maps as pytorch-grad-cam gives them: ``GradCAM(ex)(x, targets=[ClassifierOutputTarget(281)])``.

Each class is called with an :class:`onnxviz.Explainer` in the place of the model, and with names (or indices) of layers
in the place of modules. Maps are (N, *spatial), float32, each scaled to 0 … 1 at the layer's size, resized linearly to
the input's, averaged over the layers and scaled again. The score is the model's own output. What differs from the
package (github.com/jacobgil/pytorch-grad-cam, 1.5):

* without ``target_layers`` the layer is :class:`onnxviz.Explainer`'s ``"auto"``; transformers need no
  ``reshape_transform``, for the grid of their tokens is known;
* no constants stand in denominators: Grad-CAM++ of the package adds 1e-6 to squares of gradients, which changes its
  weights where gradients are as small as 1e-3 (maps of SqueezeNet correlate with the package's by 0.90 and 0.98);
* Score-CAM resizes its masks by half-pixel centres, not with aligned corners; Eigen-CAM's sign is settled;
* volumes are resized linearly, not by cubic splines.

``aug_smooth`` and ``eigen_smooth`` are not offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from onnxviz import targets as weightings
from onnxviz.compat.shared import explained, explainer, own_score, refuse
from onnxviz.engine.inputs import array
from onnxviz.engine.targets import Of
from onnxviz.errors import InputError, OptionError, TargetError
from onnxviz.image import resize_linear
from onnxviz.source import Array

Maps = npt.NDArray[np.float32]
_SMALLEST = 1e-7
"""Added to the largest value that a map is divided by, as the package does: a map of zeros stays one."""


# ----- targets: these, or the package's own objects of the same names -----


@dataclass(frozen=True)
class ClassifierOutputTarget:
    """The score of a class."""

    category: int


@dataclass(frozen=True)
class ClassifierOutputSoftmaxTarget:
    """The probability of a class, of a network whose output is logits."""

    category: int


@dataclass(frozen=True)
class BinaryClassifierOutputTarget:
    """The single score, or with another ``category`` than 1 its negative."""

    category: int


@dataclass(frozen=True, eq=False)
class SemanticSegmentationTarget:
    """The scores of a class, summed over a mask (*spatial) at the output's size."""

    category: int
    mask: npt.ArrayLike


# ----- methods -----


class _Map:
    """A method of :class:`onnxviz.Explainer`, called in the package's way.

    Args:
        model: the explainer.
        target_layers: names or indices of layers; None is ``"auto"``.
        reshape_transform: not needed, and not offered.
    """

    method: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init__(
        self, model: Any, target_layers: Sequence[str | int] | None = None, reshape_transform: None = None
    ) -> None:
        refuse(type(self).__name__, reshape_transform=reshape_transform)
        self.model = explainer("model", model)
        self.target_layers = ["auto"] if target_layers is None else _layers(target_layers)

    def __call__(
        self, input_tensor: Any, targets: Sequence[Any] | None = None, *, aug_smooth: bool = False,
        eigen_smooth: bool = False,
    ) -> Maps:  # fmt: skip
        """Maps (N, *spatial) from 0 to 1; ``targets`` has one for each sample, None is each sample's best class.

        Raises:
            OptionError: what is not offered, or targets of several kinds.
            InputError, TargetError, LayerError: as the methods of :class:`onnxviz.Explainer`.
        """
        refuse(type(self).__name__, aug_smooth=aug_smooth, eigen_smooth=eigen_smooth)
        x = _read(input_tensor)
        target, of = _resolved(self.model, targets, len(x))
        found = self.model.explain(
            x, self.method, target, of=of, layer=self.target_layers, upsample=False, **self.options
        )
        size = [x.shape[axis] for axis in self.model.inputs[0].axes.spatial]
        maps = [resize_linear(_scaled(one.values), size, range(1, one.values.ndim)) for one in found]
        return _scaled(np.asarray(maps).mean(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was hooked into the model, so there is nothing to release."""


class GradCAM(_Map):
    """Grad-CAM (Selvaraju 2017, arXiv:1610.02391)."""

    method = "grad_cam"


class GradCAMPlusPlus(_Map):
    """Grad-CAM++ (Chattopadhay 2018, arXiv:1710.11063)."""

    method = "grad_cam_pp"


class LayerCAM(_Map):
    """LayerCAM (Jiang 2021, doi:10.1109/TIP.2021.3089943)."""

    method = "layer_cam"


class HiResCAM(_Map):
    """HiResCAM (Draelos & Carin 2020, arXiv:2011.08891)."""

    method = "hires_cam"


class XGradCAM(_Map):
    """XGrad-CAM (Fu 2020, arXiv:2008.02312)."""

    method = "xgrad_cam"


class EigenCAM(_Map):
    """Eigen-CAM (Muhammad 2020, arXiv:2008.00299), of centred channels as in the package."""

    method = "eigen_cam"
    options = MappingProxyType({"centre": True})


class ScoreCAM(_Map):
    """Score-CAM (Wang 2020, arXiv:1910.01279)."""

    method = "score_cam"


class GuidedBackpropReLUModel:
    """Guided backprop (Springenberg 2015, arXiv:1412.6806) of the first sample, (*spatial, C).

    Args:
        model: the explainer.
        device: not offered: it is the explainer's.
    """

    def __init__(self, model: Any, device: None = None) -> None:
        refuse(type(self).__name__, device=device)
        self.model = explainer("model", model)

    def __call__(self, input_img: Any, target_category: int | None = None) -> Maps:
        """The gradient of a class's score; None is the best class."""
        found = self.model.guided_backprop(_read(input_img)[:1], target_category, of=own_score(self.model))
        if "channel" not in found.axes:
            raise InputError(f"which axis of the input holds the channels is not known; its axes are {found.axes}")
        return np.asarray(np.moveaxis(found.values, found.axes.index("channel"), -1)[0], np.float32)


# ----- what they share -----


def _layers(given: Sequence[str | int]) -> list[str | int]:
    if isinstance(given, str | bytes) or not isinstance(given, Sequence) or not given:
        raise OptionError(f"target_layers is a {type(given).__name__}; expected a list of names or indices of layers")
    for layer in given:
        if not isinstance(layer, str | int):
            raise OptionError(
                f"target_layers holds a {type(layer).__name__}; expected names or indices of layers, as ex.layers shows"
            )
    return list(given)


def _read(given: Any) -> Array:
    x = array(given)
    if not x.ndim or not len(x):
        raise InputError(f"input_tensor is a batch (N, …); got shape {x.shape}")
    return x


def _scaled(maps: Array) -> Maps:
    """Each sample's map from 0 to 1."""
    within = tuple(range(1, maps.ndim))
    above = maps - maps.min(within, keepdims=True)
    return np.asarray(above / (_SMALLEST + above.max(within, keepdims=True)), np.float32)


def _resolved(model: Any, targets: Sequence[Any] | None, count: int) -> tuple[Any, Of]:
    """A target of :class:`onnxviz.Explainer`, and of which score."""
    of = own_score(model)
    if targets is None:  # of a single unit its score, as the package's argmax of one entry
        return (0 if _single(model) else None), of
    if not isinstance(targets, Iterable):
        raise OptionError(
            f"targets is a list of one for each sample, such as [ClassifierOutputTarget(281)]; got {targets}"
        )
    kinds = {type(target).__name__ for target in targets}
    if len(targets) != count:
        raise TargetError(f"targets has {len(targets)} entries for {count} samples: one for each is expected")
    if len(kinds) > 1 or not kinds <= _KINDS.keys():
        raise OptionError(f"targets are of kind {', '.join(sorted(kinds))}: expected one of {', '.join(_KINDS)}")
    (kind,) = kinds
    if kind == "ClassifierOutputSoftmaxTarget":
        if of == "probability":
            raise OptionError(
                f"this network's output is a probability already: take ClassifierOutputTarget, not {kind}"
            )
        of = "probability"
    return _KINDS[kind](model, targets), of


def _classes(_model: Any, targets: Sequence[Any]) -> Array:
    return np.array([target.category for target in targets])


def _signs(model: Any, targets: Sequence[Any]) -> Array:
    if not _single(model):
        raise TargetError("BinaryClassifierOutputTarget is for a network with a single score")
    signs = np.array([1.0 if target.category == 1 else -1.0 for target in targets], np.float32)
    return signs.reshape(-1, *[1] * (len(explained(model).logits_shape) - 1))


def _masks(model: Any, targets: Sequence[Any]) -> Array:
    output = explained(model)
    if output.logits_axes.channel is None:
        raise TargetError(f"which axis of output {output.name!r} counts the classes is not known")
    masks = [array(target.mask) for target in targets]
    sizes = dict(zip(output.logits_axes.spatial, masks[0].shape, strict=False))
    shape = [
        int(size or 1) if axis not in sizes else sizes[axis] for axis, size in enumerate([1, *output.logits_shape[1:]])
    ]
    return np.concatenate([
        weightings.segmentation(mask, int(target.category), shape, channel_axis=output.logits_axes.channel)
        for target, mask in zip(targets, masks, strict=True)
    ])  # fmt: skip


def _single(model: Any) -> bool:
    output = explained(model)
    return len(output.logits_shape) == 1 or output.logits_shape[output.logits_axes.channel or -1] == 1


_KINDS = {
    "ClassifierOutputTarget": _classes,
    "ClassifierOutputSoftmaxTarget": _classes,
    "BinaryClassifierOutputTarget": _signs,
    "SemanticSegmentationTarget": _masks,
}
