"""``onnxviz.convert``: from a model of any framework to an explainable file, checked."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from onnxviz import __version__, bundle
from onnxviz.arguments import checked
from onnxviz.errors import (
    MissingDependencyError,
    OpenSizeError,
    OptionError,
    UnsupportedModelError,
    printable,
)
from onnxviz.files import require_readable
from onnxviz.manifest import Manifest
from onnxviz.source import OpenSizes, Source

if TYPE_CHECKING:
    from onnxviz.explainable import GradientChoice
    from onnxviz.image import ImageInput

_BY_SUFFIX = {".onnx": "onnx", ".pt2": "torch", ".keras": "keras", ".h5": "keras", ".hdf5": "keras"}
_CONVERTERS = {"onnx": "onnxviz.graph.plain", "torch": "onnxviz_torch", "keras": "onnxviz_keras"}


@checked
def convert(
    model: Any,
    path: str | os.PathLike[str],
    *,
    example: Any = None,
    layers: Sequence[str] | str | None = None,
    input: ImageInput | None = None,
    classes: Sequence[str] | None = None,
    processor: Any = None,
    gradient: GradientChoice = True,
    external_data: bool | None = None,
    custom_objects: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    open_sizes: OpenSizes = None,
    quiet: bool = False,
) -> Path:
    """Convert a model once into an explainable ONNX file, and check the file against the model.

    Args:
        model: a ``keras.Model`` (on TensorFlow), a ``torch.nn.Module``, a ``torch.export.ExportedProgram``, or the path
            of a ``.keras``, ``.h5``, ``.hdf5``, ``.pt2`` or ``.onnx`` file.
        path: where the file goes; an existing one is replaced only by a file that passed the check.
        example: inputs that the model accepts: an array, a tuple of positional inputs, or a dict by name. A
            PyTorch module and a subclassed Keras model need it, as do integer inputs and inputs of unknown size;
            otherwise N(0, 1) is drawn.
        layers: names or patterns (``"features.*"``) of the layers to tap; None is all of them.
        input: how pictures become inputs (:class:`onnxviz.ImageInput`); travels with the file.
        classes: the names of the classes, by index. None takes those of a model of ``transformers``
            (``config.id2label``), where it has any.
        processor: of a model of ``transformers``, which says ``input`` and makes ``example`` where none is given: an
            image processor, a tokenizer (whose example is a sentence; with ``open_sizes=True`` texts may be of any
            length), a feature extractor (a second of noise), or one that consists of these. For pictures also its
            dict, or the path of its configuration or of the folder with it; these serve any kind of model.
        gradient: True builds the gradient graph and refuses a model with an operator that has no rule; ``"available"``
            explains what lies behind such operators and says in the layer table what does not; False builds none.
        external_data: weights in ``<name>.<hash>.data`` beside the file. None does so above 2 GiB only.
        custom_objects: name → class or function of what Keras does not know in a ``.keras`` or ``.h5`` file.
        trust_code: run Python code that a file contains: Lambda layers in a Keras model's, pickled objects in a
            ``.pt2``. Only for files whose origin you trust; False refuses them.
        open_sizes: which sizes beside the batch the file leaves open, so that it takes inputs of other sizes than the
            example's: None is what the model itself leaves open, ``{"x": (2, 3)}`` these axes of these inputs, True
            also what a PyTorch module may leave open (all axes behind the channels; of integers all behind the batch),
            False none, which makes the leanest graph. Where the model runs at one size alone, or a gradient needs to
            know a size, it is the example's, and a note says so.
        quiet: do not print the line of residuals.

    Returns:
        The path of the file.

    Raises:
        UnsupportedModelError: not a kind of model that is taken.
        UnsupportedOperatorError: an operator cannot be lifted to opset 18, or has no gradient rule.
        CheckFailedError: the file does not reproduce the model's numbers. Nothing is written.
        InputError, LayerError, OptionError: a wrong example, layer or option.
    """
    from onnxviz import explainable
    from onnxviz.check import Check

    if not isinstance(gradient, bool | str) or gradient not in (True, False, "available"):
        raise OptionError(f"gradient={gradient!r}: expected True, False or 'available'")
    final = Path(path)
    if processor is not None:
        input = _image_input(processor, input, model)
    image = input.to_dict() if input else None
    with bundle.staged(final) as draft, _steps() as step:

        def attempt(sizes: OpenSizes, *notes: str) -> tuple[Source, Manifest]:
            step("exporting")
            source = source_of(
                model, custom_objects=custom_objects, trust_code=trust_code, example=example, layers=layers,
                open_sizes=sizes, processor=processor,
            )  # fmt: skip
            source.notes.extend(notes)
            step("building the gradient graph")
            graph, manifest = explainable.explain(source, gradient=gradient, image=image, classes=classes)
            _check_classes(classes, manifest)
            if classes is None:
                manifest = replace(manifest, classes=_own_classes(source, manifest))
            _check_image(input, manifest)
            step("writing")
            bundle.write(draft, graph, manifest, external_data=external_data)
            step("checking against the model")
            manifest.residuals.update(Check(source, manifest, draft).run())
            return source, manifest

        try:
            source, manifest = attempt(open_sizes)
        except OpenSizeError as error:
            source, manifest = attempt(False, f"all sizes but the batch stay as they are in the example: {error}")  # noqa: FBT003 - as convert takes it
        bundle.add_residuals(draft, manifest)
    if not quiet:
        print(printable(summary(final, manifest, [*source.notes, *source.caveats])))  # noqa: T201 - the line of residuals that conversion promises
    return final


def summary(path: Path, manifest: Manifest, notes: Sequence[str] = ()) -> str:
    """What a conversion tells: layers, residuals against the source, and notes."""
    line = f"{path}: {manifest.framework}, {len(manifest.layers)} layers; {_residuals(manifest.residuals)}"
    if "resized" in manifest.residuals:
        line += f"; at another size {_residuals(manifest.residuals['resized'])}"
    return "\n".join([line, *(f"  note: {note}" for note in notes)])


def _residuals(residuals: dict[str, Any]) -> str:
    values = max([*residuals["outputs"].values(), *residuals["layers"].values()], default=0.0)
    if "gradient" not in residuals:
        return f"values within {values:.1e}"
    g = residuals["gradient"]
    return (
        f"values within {values:.1e}, gradient within {g['max']:.1e} (median {g['median']:.1e}) of the original's, by "
        f"{g['by']}"
    )


def source_of(
    model: Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    processor: Any = None,
    **arguments: Any,
) -> Source:
    """What the converter for this kind of model makes of it; ``arguments`` are those that all converters take."""
    kind = _kind(model)
    if custom_objects is not None and kind != "keras":
        raise OptionError("custom_objects= is for files of Keras models")
    if trust_code and kind == "onnx":
        raise OptionError("trust_code= is for .keras, .h5 and .pt2 files: an ONNX file holds no code")
    if kind == "keras":
        arguments |= {"custom_objects": custom_objects, "trust_code": trust_code}
    if kind == "torch":
        arguments |= {"processor": processor, "trust_code": trust_code}
    try:
        converter = importlib.import_module(_CONVERTERS[kind])
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"converting this model needs {error.name!r}, which is not installed: pip install 'onnxviz[{kind}]'"
        ) from error
    source: Source = converter.source(model, **arguments)
    source.versions |= {"onnxviz": __version__, "onnx": version("onnx"), "onnx-ir": version("onnx-ir")}
    return source


def _kind(model: Any) -> str:
    """Which converter takes the model; told by names, so that no framework is imported to find out."""
    if isinstance(model, str | os.PathLike):
        suffix = Path(model).suffix.lower()
        if suffix in _BY_SUFFIX:
            require_readable(model)
            return _BY_SUFFIX[suffix]
        if suffix in {".pt", ".pth", ".ckpt", ".safetensors"}:
            raise UnsupportedModelError(
                f"{model} holds weights (or TorchScript), not a network: build the nn.Module, load the weights into it "
                f"and pass the module with example=…, or save it with torch.export.save as .pt2"
            )
        raise UnsupportedModelError(
            f"{model}: files of kind {suffix or 'without suffix'} are not taken; taken are {', '.join(_BY_SUFFIX)}. A "
            f"TensorFlow SavedModel must first be loaded as a Keras model or exported to ONNX"
        )
    ancestors = {(c.__module__.partition(".")[0], c.__name__) for c in type(model).__mro__}
    if any(root == "tf_keras" for root, _ in ancestors):
        raise UnsupportedModelError("tf_keras (Keras 2) models are not taken: load the model with Keras 3")
    if ("keras", "Model") in ancestors or ("keras", "Layer") in ancestors:
        return "keras"
    if ("torch", "Module") in ancestors or ("torch", "ExportedProgram") in ancestors:
        return "torch"
    if ("onnx", "ModelProto") in ancestors:
        return "onnx"
    raise UnsupportedModelError(
        f"a {type(model).__module__}.{type(model).__qualname__} is no model that onnxviz takes: pass a keras.Model, "
        f"a torch.nn.Module, a torch.export.ExportedProgram, or the path of a file: {', '.join(_BY_SUFFIX)}"
    )


def _image_input(processor: Any, given: ImageInput | None, model: Any) -> ImageInput | None:
    """How a processor prepares pictures, if it does."""
    from onnxviz.image import ImageInput
    from onnxviz.image.processors import is_for_pictures, parts

    pictures = [part for part in parts(processor) if is_for_pictures(part)]
    if not pictures:
        if _kind(model) != "torch":
            raise OptionError("processor= of text or sound is for PyTorch modules: give example=")
        return given
    if given is not None:
        raise OptionError("input= and processor= both say how pictures are prepared: give one of them")
    return ImageInput.from_processor(pictures[0], layout="NHWC" if _kind(model) == "keras" else "NCHW")


def _own_classes(source: Source, manifest: Manifest) -> tuple[str, ...] | None:
    """The names that the model knows, if an output has as many classes."""
    names = tuple(source.classes or ())
    return names if names and any(len(names) in output.shape[1:] for output in manifest.outputs) else None


def _check_classes(classes: Sequence[str] | None, manifest: Manifest) -> None:
    """As many names as one of the outputs has classes, where that is known."""
    axes = [(o.shape, o.axes.channel) for o in manifest.outputs]
    counts = {shape[channel] for shape, channel in axes if channel is not None}
    if classes is not None and counts and len(classes) not in counts:
        raise OptionError(f"{len(classes)} class names for {' or '.join(map(str, counts))} classes")


def _check_image(image: ImageInput | None, manifest: Manifest) -> None:
    """Pictures become arrays that the first input takes."""
    if image is None:
        return
    import numpy as np

    tensor = manifest.inputs[0]
    made = image.read(np.zeros((1, 1, 3), np.uint8)).shape
    if len(made) != len(tensor.shape) or any(
        isinstance(want, int) and want != got for want, got in zip(tensor.shape[1:], made[1:], strict=True)
    ):
        raise OptionError(
            f"input=ImageInput({image.size}, {image.layout!r}, channels={image.channels!r}, …), as it was given or as "
            f"processor= says, makes arrays {['N', *made[1:]]}, and input {tensor.name!r} takes {list(tensor.shape)}: "
            f"change size, layout or channels"
        )


class _steps:  # noqa: N801 - used as a function
    """A progress bar that shows itself on a terminal when conversion takes more than two seconds."""

    def __enter__(self) -> Any:
        self.bar = tqdm(total=4, delay=2, disable=None, leave=False, bar_format="{desc} {bar} {elapsed}")
        self.started = False
        return self

    def __call__(self, description: str) -> None:
        if self.started:
            self.bar.update()
        self.started = True
        self.bar.set_description(description)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
