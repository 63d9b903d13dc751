"""What an image processor of ``transformers`` does to pictures, read from its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxviz.errors import InputError, OptionError
from onnxviz.image.description import INTERPOLATIONS

_SHORT_SIDE = (
    "BiT", "Bit", "CLIP", "ChineseCLIP", "ConvNext", "Levit", "MobileNetV1", "MobileNetV2", "MobileViT", "PoolFormer",
    "VideoMAE",
)  # fmt: skip
"""Kinds of processors to which a single number as size means the short side; to others it means a square."""
_DONE = frozenset({"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order"})
_NOTHING = frozenset({"do_convert_rgb", "do_reduce_labels"})
"""What every picture undergoes here, and what concerns no pictures."""
_OTHER = ("size_divisor", "keep_aspect_ratio", "max_pixels", "min_pixels", "patch_size", "pad_size")
"""What changes pictures in a way that no ImageInput describes."""


_PARTS = ("image_processor", "tokenizer", "feature_extractor")
"""What a processor of several kinds of input consists of, pictures first."""


def parts(processor: Any) -> list[Any]:
    """A processor, or those that it consists of: for pictures, text or sound; pictures come first.

    Args:
        processor: an object of ``transformers``; or the dict of an image processor, or the path of its
            ``preprocessor_config.json`` or of the folder with it.

    Raises:
        OptionError: it is no processor.
    """
    if isinstance(processor, str | os.PathLike | Mapping):
        return [processor]
    found = [part for name in _PARTS if (part := getattr(processor, name, None)) is not None] or [processor]
    for part in found:
        if not (is_for_pictures(part) or hasattr(part, "sampling_rate") or hasattr(part, "convert_tokens_to_ids")):
            raise OptionError(
                f"processor={processor!r}: expected an image processor, a tokenizer or a feature extractor of "
                f"transformers, or the dict, file or folder of an image processor's configuration"
            )
    return found


def is_for_pictures(part: Any) -> bool:
    """Whether it prepares pictures; configurations are taken for those of image processors."""
    if isinstance(part, str | os.PathLike | Mapping):
        return True
    return "pixel_values" in getattr(part, "model_input_names", ()) or hasattr(part, "image_mean")


def fields_of(processor: Any) -> dict[str, Any]:
    """The fields of an :class:`onnxviz.ImageInput`; see :meth:`onnxviz.ImageInput.from_processor`.

    Sources: ``preprocessor_config.json`` of the hub, and the processors' documented defaults.
    """
    config = _config(processor)
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "of unnamed type")
    if "sampling_rate" in config:
        raise OptionError(
            f"the processor {kind} prepares sound, not pictures: its configuration alone does not do; pass the object"
        )
    for name, value in config.items():
        if value and ((name.startswith("do_") and name not in _DONE | _NOTHING) or name in _OTHER):
            raise OptionError(f"the image processor {kind} has {name}={value!r}, which an ImageInput cannot describe")
    if not config.get("do_resize", True):
        raise OptionError(
            f"the image processor {kind} does not resize, so its size is not known: give onnxviz.ImageInput(size, …)"
        )
    resample = int(config.get("resample", INTERPOLATIONS["bicubic" if config.get("crop_pct") else "bilinear"]))
    names = {number: name for name, number in INTERPOLATIONS.items()}
    if resample not in names:
        raise OptionError(f"the image processor {kind} has resample={resample!r}; known are {names}")
    normalisation = _normalisation(config, kind)
    if len(normalisation["mean"]) == 1:
        channels = {"channels": "L"}
    else:
        channels = {"channels": "BGR"} if config.get("do_flip_channel_order") else {}
    return {"interpolation": names[resample], **channels, **_sizes(config, kind), **normalisation}


def _config(processor: Any) -> Mapping[str, Any]:
    if hasattr(processor, "image_processor"):  # of a processor for text and pictures
        processor = processor.image_processor
    found = processor.to_dict() if hasattr(processor, "to_dict") else processor
    if isinstance(found, str | os.PathLike):
        path = Path(found)
        if path.is_dir():
            together = path / "processor_config.json"  # of one for pictures and more
            path = together if together.exists() else path / "preprocessor_config.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read the image processor {str(path)!r}: {error.strerror}") from error
        except ValueError as error:
            raise InputError(f"the image processor {str(path)!r} is no JSON: {error}") from error
    if isinstance(found, Mapping) and isinstance(found.get("image_processor"), Mapping):
        found = found["image_processor"]
    if not isinstance(found, Mapping):
        raise OptionError(f"an image processor is an object with to_dict(), its dict, or a path; got {processor!r}")
    return found


def _sizes(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """``size``, and ``resize`` where a part of the picture is cut off."""
    size, share = config.get("size"), config.get("crop_pct")
    if isinstance(size, int):
        size = {"shortest_edge": size} if kind.startswith(_SHORT_SIDE) else {"height": size, "width": size}
    crop = config.get("crop_size") if config.get("do_center_crop") else None
    cropped = _pair(crop) if crop else None
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        whole = _pair(size)
        return {"size": whole} if cropped in {None, whole} else {"size": cropped, "resize": whole}
    if not isinstance(size, Mapping) or set(size) != {"shortest_edge"}:
        raise OptionError(f"the image processor {kind} has size={size!r}, which an ImageInput cannot describe")
    short = int(size["shortest_edge"])
    if kind.startswith("ConvNext"):  # its crop is its size, and large ones are resized as they are
        share = 224 / 256 if share is None else share
        return {"size": short} if short >= 384 else {"size": short, "resize": int(short / share)}
    if cropped is None:
        raise OptionError(f"the image processor {kind} keeps the proportions and does not crop: its size is not known")
    if kind.startswith("Levit"):
        return {"size": cropped, "resize": int(256 / 224 * short)}
    return {"size": cropped, "resize": int(short / share) if share else short}


def _normalisation(config: Mapping[str, Any], kind: str) -> dict[str, Any]:
    scale = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    normalises = config.get("do_normalize", not kind.startswith("MobileViT"))
    if normalises and not (config.get("image_mean") and config.get("image_std")):
        raise OptionError(f"the image processor {kind} normalises, but says no image_mean and image_std")
    mean = _numbers(config["image_mean"]) if normalises else (0.0, 0.0, 0.0)
    std = _numbers(config["image_std"]) if normalises else (1.0, 1.0, 1.0)
    if kind.startswith("EfficientNet"):
        if config.get("rescale_offset"):
            mean = tuple(m + 1 for m in mean)
        if config.get("include_top", True):  # divides by the deviation once more
            std = tuple(s * d for s, d in zip(std, _numbers(config["image_std"]), strict=True))
    return {"scale": scale, "mean": mean, "std": std}


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        return int(size["height"]), int(size["width"])
    if isinstance(size, int):
        return size, size
    raise OptionError(f"an image processor's size is a number or height and width; got {size!r}")


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(v) for v in values) if isinstance(values, Sequence) else (float(values),)
