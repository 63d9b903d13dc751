"""From pictures to the array that a network takes, and back to the pixels that it saw and where they lie."""

from onnxviz.image.description import ImageInput
from onnxviz.image.geometry import View, resize_linear
from onnxviz.image.reading import Picture, Pixels, is_picture, read_pixels

__all__ = ["ImageInput", "Picture", "Pixels", "View", "is_picture", "read_pixels", "resize_linear"]
