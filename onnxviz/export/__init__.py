"""Plain ONNX files that explain: an image goes in, a prediction and a map come out, on any runtime.

``plan`` says what a file computes and asks the methods for it, ``drawing`` makes the graph, ``samples`` is what
averages over variants of the input, ``plain`` leaves nothing but standard operators, ``file`` writes.
"""

from onnxviz.export.file import Exported, export

__all__ = ["Exported", "export"]
