"""Outputs and inputs of every kind, from the model to the question."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.errors import TargetError
from tests.support import assert_close, model_of, normal, tensors, torch_gradient


class Both(nn.Module):
    """Scores and what softmax makes of them, as one often returns them: their gradients start at the same value."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4)

    def forward(self, table):
        scores = self.head(torch.tanh(table))
        return {"scores": scores, "probabilities": scores.softmax(1), "best": scores.argmax(1), "again": scores}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    torch.manual_seed(0)
    model = Both().eval()
    path = tmp_path_factory.mktemp("both") / "net.onnx"
    return model, ov.load(ov.convert(model, path, example=normal(2, 6), quiet=True))


@pytest.mark.parametrize("output", [None, "scores", "probabilities", "again"])
def test_outputs_that_share_their_logits(both, output):
    model, ex = both
    feeds = {"table": normal(3, 6, seed=3)}
    expected = torch_gradient(model, feeds, lambda y: y["scores"][:, 2])
    assert_close(ex.gradient(feeds, 2, output=output), expected)
    expected = torch_gradient(model, feeds, lambda y: y["probabilities"][:, 2])
    assert_close(ex.gradient(feeds, 2, output=output, of="probability"), expected)


def test_outputs_that_are_no_floats(both):
    model, ex = both
    feeds = {"table": normal(3, 6, seed=3)}
    assert ex.predict(feeds)["best"].tolist() == model(**tensors(feeds))["best"].tolist()
    assert {o.name: (o.has_gradient, o.activation) for o in ex.outputs} == {
        "scores": (True, None),
        "probabilities": (True, "Softmax"),
        "best": (False, None),
        "again": (True, None),
    }
    with pytest.raises(TargetError, match=r"'best' has no gradient.*scores, probabilities"):
        ex.gradient(feeds, 1, output="best")


class Squeezed(nn.Module):
    """A probability whose axis of one unit is taken away at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 1)

    def forward(self, table):
        return torch.sigmoid(self.head(torch.tanh(table))).squeeze(1)


def test_reshapes_after_the_last_activation(tmp_path):
    torch.manual_seed(0)
    model, feeds = Squeezed().eval(), {"table": normal(3, 6, seed=3)}
    ex = ov.load(ov.convert(model, tmp_path / "net.onnx", example=normal(2, 6), quiet=True))
    (output,) = ex.outputs
    assert (output.shape, output.logits, output.logits_shape, output.activation) == (
        ("N",),
        "head",
        ("N", 1),
        "Sigmoid",
    )
    logit = torch_gradient(model, feeds, torch.logit)
    assert_close(ex.gradient(feeds, 0), logit)
    assert_close(ex.gradient(feeds, 0, of="probability"), torch_gradient(model, feeds, lambda y: y))
    assert_close(ex.predict(feeds), model(**tensors(feeds)).detach().numpy())


def test_an_input_that_all_samples_share(tmp_path):
    """Its first axis is not the batch, so it is neither chunked nor repeated."""
    nodes = "s = Mul(x, scale)  a = Tanh(s)  y = MatMul(a, m)"
    model = model_of(nodes, "float[N, 4] x, float[4] scale", "float[N, 3] y", {"m": normal(4, 3)})
    ex = ov.load(ov.convert(model, tmp_path / "net.onnx", quiet=True))
    x, scale = normal(5, 4, seed=3), normal(4, seed=4)
    a = np.tanh(x * scale)
    expected = (1 - a**2) * scale * normal(4, 3)[:, 1]
    for batch_size in (5, 2, 1):
        ex.batch_size = batch_size
        assert_close(ex.gradient({"x": x, "scale": scale}, 1), expected)
        assert_close(ex.predict((x, scale)), a @ normal(4, 3))
