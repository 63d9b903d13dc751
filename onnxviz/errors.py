"""Every refusal of onnxviz is one of these, so that ``except OnnxvizError`` catches them all.

A message says what was asked, what was expected, what came, and the way out.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class OnnxvizError(Exception):
    """The base of all errors that onnxviz raises on purpose."""


class ConversionError(OnnxvizError):
    """A model cannot be converted."""


class UnsupportedModelError(ConversionError, TypeError):
    """The kind of model (or file) is not one that onnxviz converts."""


class UnsupportedOperatorError(ConversionError):
    """An operator of the graph cannot be lifted to opset 18 or has no gradient rule."""


class OpenSizeError(ConversionError):
    """A gradient needs to know a size that the model leaves open; with sizes fixed to the example's it can be built."""


class CheckFailedError(ConversionError):
    """The converted file does not reproduce the original model's numbers."""


class FileFormatError(OnnxvizError, ValueError):
    """A file is not an explainable ONNX file: damaged, plain ONNX, or of another format version."""


class FileAccessError(OnnxvizError, OSError):
    """The system does not let a file be read or written: no permission, no room, a read-only file system."""


class InputError(OnnxvizError, ValueError):
    """An array does not fit the model's input: rank, shape, dtype, or values that are not finite."""


class TargetError(OnnxvizError, ValueError):
    """A target does not fit the model's output."""


class LayerError(OnnxvizError, LookupError):
    """A layer is unknown, or cannot answer the question (no gradient, no spatial axes)."""


class OptionError(OnnxvizError, ValueError):
    """An argument that selects how something is done has an unknown or impossible value."""


class NotFiniteError(OnnxvizError, ArithmeticError):
    """A computation that goes on in steps has left the finite numbers."""


class MissingDependencyError(OnnxvizError, ImportError):
    """A package that this step needs is not installed."""


class ProviderError(OnnxvizError, RuntimeError):
    """An execution provider was asked for that this onnxruntime does not have or could not start."""


class OutOfMemoryError(ProviderError):
    """A run did not fit into the memory of the device."""


class OnnxvizWarning(UserWarning):
    """What goes on, but not as it was asked for."""


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Text for a terminal or a log, in which names out of files command nothing: control characters are spelled out."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """``"; did you mean 'a', 'b'?"`` for the nearest of the known names, or nothing."""
    close = get_close_matches(name, list(known), n=most, cutoff=0.5)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""
