"""Who takes part. To add a library: a class with ``answer`` in a file of its own here, and its line in ``HOMES``."""

from __future__ import annotations

from importlib import import_module

from benchmarks.contestants.base import Absent, Contestant
from benchmarks.subject import Subject

HOMES = {
    "onnxviz": "ours:Onnxviz",
    "forward": "floor:Forward",
    "onnxviz from Keras": "ours:FromKeras",
    "torch": "pytorch:Torch",
    "torch.compile": "pytorch:Compiled",
    "captum": "captum:Captum",
    "pytorch-grad-cam": "pytorch_grad_cam:PytorchGradCam",
    "tensorflow": "tensorflow:TensorFlow",
    "tf-keras-vis": "tf_keras_vis:TfKerasVis",
    "ort-training": "training:OrtTraining",
}
"""Name → module and class. The first two always take part: ours, and the floor, the network's own forward pass."""

ALWAYS = tuple(HOMES)[:2]
PEERS = tuple(HOMES)[2:]


def kind_of(name: str) -> type[Contestant]:
    """The class of that contestant; its module, and with it the library, is imported now."""
    module, _, kind = HOMES[name].partition(":")
    found: type[Contestant] = getattr(import_module(f"benchmarks.contestants.{module}"), kind)
    return found


def enter(name: str, subject: Subject) -> Contestant:
    """The contestant of that name, ready.

    Raises:
        Absent: it cannot take part, or is not installed.
    """
    try:
        return kind_of(name)(subject)
    except ModuleNotFoundError as error:
        raise Absent(f"{error.name} is not installed") from error


__all__ = ["ALWAYS", "HOMES", "PEERS", "Absent", "Contestant", "enter", "kind_of"]
