"""Files and a way to call the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import onnxviz as ov
from onnxviz.cli import app

CLASSES = ("red", "blue, azure", "Green", "none")
IMAGE = ov.ImageInput((24, 36), scale=1 / 255, resize=48)


class Colours(nn.Module):
    """Four classes: how much red, blue and green there is, and their opposite."""

    def __init__(self) -> None:
        super().__init__()
        self.colour, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        weight = torch.tensor([[1.0, -1, -1], [-1, -1, 1], [-1, 1, -1], [-1, -1, -1]])
        with torch.no_grad():
            self.colour.weight.zero_()
            self.colour.weight[:, :, 1, 1] = weight
            self.colour.bias.zero_()

    def forward(self, picture):
        return self.relu(self.colour(picture)).mean((2, 3))


@pytest.fixture(scope="session")
def colours(tmp_path_factory):
    """The path of a file that knows its pictures and classes; not to be changed."""
    path = tmp_path_factory.mktemp("colours") / "colours.onnx"
    return ov.convert(Colours(), path, example=torch.rand(1, 3, 24, 36), input=IMAGE, classes=CLASSES, quiet=True)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: empty but for photos/ with a red and a blue photo."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name, channel in (("red", 0), ("sky", 2)):
        pixels = np.full((60, 100, 3), 40, np.uint8)
        pixels[20:40, 50:70, channel] = 230
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{name}.png")
    return tmp_path


@pytest.fixture
def call(folder):  # noqa: ARG001 - commands run there
    """Run a command in that folder: exit code, stdout (parsed, with ``--json``), stderr."""

    def run(*arguments):
        done = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        out = json.loads(done.stdout) if "--json" in arguments and done.stdout else done.stdout
        return done.exit_code, out, done.stderr

    return run
