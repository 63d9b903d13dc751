"""From pictures to the array that a network takes, and back to the pixels that it saw and where they lie."""

from onnxviz.image.description import ImageInput
from onnxviz.image.geometry import View, resize_linear
from onnxviz.image.reading import Array, Picture, Pixels, is_picture, read_pixels

__all__ = ["Array", "ImageInput", "Picture", "Pixels", "View", "is_picture", "read_pixels", "resize_linear"]
