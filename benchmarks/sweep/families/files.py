"""The light models that the ``onnx`` package carries: real topologies whose weights are constants."""

from __future__ import annotations

from functools import partial

from benchmarks.sweep.entry import Entry, Subject

LIGHT = (
    "bvlc_alexnet", "densenet121", "inception_v1", "inception_v2", "resnet50", "shufflenet", "squeezenet", "vgg19",
    "zfnet512",
)  # fmt: skip


def build(name: str) -> Subject:
    """The file as it is, with the batch that it has."""
    import zoo

    return Subject(zoo.data("onnx", "backend", "test", "data", "light", f"light_{name}.onnx"))


ENTRIES = [Entry("onnx light models", name, partial(build, name), small=name == "squeezenet") for name in LIGHT]
