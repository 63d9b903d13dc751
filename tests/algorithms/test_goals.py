"""What can be maximised, each kind of target against autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from onnxviz.errors import InputError, TargetError
from tests.support import assert_close, score_of

ONE_STEP = {"steps": 1, "optimizer": "plain", "learning_rate": 1.0, "jitter": 0}
"""The image is then its start plus the gradient there."""


TARGETS = {
    "class": ("cnn", 2, None, lambda y: y[:, 2]),
    "weighting": ("cnn", np.float32([0, 1, -2, 0, 0.5]), None, lambda y: y[:, 1] - 2 * y[:, 2] + 0.5 * y[:, 4]),
    "filter": ("cnn", "features.2:5", "features.2", lambda y: y[:, 5].mean((1, 2))),
    "neuron": ("cnn", "features.2:5@1,4", "features.2", lambda y: y[:, 5, 1, 4]),
    "neuron from the end": ("cnn", "features.0:-1@-2,-6", "features.0", lambda y: y[:, -1, -2, -6]),
    "direction": (
        "cnn", ("features.0", np.arange(6) - 2.0), "features.0",
        lambda y: (y.mean((2, 3)) * (torch.arange(6) - 2)).sum(1),
    ),
    "direction at a place": (
        "cnn", ("features.0@2,3", np.arange(6) - 2.0), "features.0",
        lambda y: (y[:, :, 2, 3] * (torch.arange(6) - 2)).sum(1),
    ),
    "dense unit": ("classifier", "hidden:3", "hidden", lambda y: y[:, 3]),
    "logit before softmax": ("classifier", 1, "head", lambda y: y[:, 1]),
    "series": ("series", "conv:2", "conv", lambda y: y[:, 2].mean(1)),
    "series at a time": ("series", "conv:2@5", "conv", lambda y: y[:, 2, 5]),
    "volume": ("volume", "conv:1", "conv", lambda y: y[:, 1].mean((1, 2, 3))),
    "volume at a voxel": ("volume", "conv:1@1,2,0", "conv", lambda y: y[:, 1, 1, 2, 0]),
    "class of every place": ("segmenter", 3, None, lambda y: y[:, 3].sum((1, 2))),
    "channels last": ("mixed", "wide:7", "wide", lambda y: y[..., 7].mean((1, 2))),
    "channels last at a place": ("mixed", "wide:7@1,2", "wide", lambda y: y[:, 1, 2, 7]),
    "tokens in the middle": ("residual", "stem:2", "stem", lambda y: y[:, 2]),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_one_step_is_autograds_gradient(subjects, name):
    which, target, layer, score = TARGETS[name]
    subject = subjects(which)
    start = subject.x(2)
    leaf = torch.tensor(start, requires_grad=True)
    expected = score_of(subject.model, leaf, layer, score)
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    found = subject.explainer.maximize(target, start=start, **ONE_STEP)
    assert_close(found.scores[0], expected.detach().numpy())
    assert_close(found.images - start, gradient.numpy(), 1e-4)
    assert found.targets[0] == found.targets[1]


def test_probability_is_what_is_asked_for(subjects):
    subject = subjects("classifier")
    start = subject.x(1)
    leaf = torch.tensor(start, requires_grad=True)
    expected = subject.model(leaf)[:, 1]
    found = subject.explainer.maximize(1, start=start, of="probability", **ONE_STEP)
    assert_close(found.scores[0], expected.detach().numpy())
    assert_close(found.images - start, torch.autograd.grad(expected.sum(), leaf)[0].numpy(), 1e-4)


def test_other_inputs_are_held_fixed(subjects):
    subject = subjects("two heads")
    feeds = subject.feeds(1)
    leaf = torch.tensor(feeds["first"], requires_grad=True)
    score = subject.model(leaf, torch.tensor(feeds["second"]))["both"][:, 1]
    found = subject.explainer.maximize(
        [1, 1], start=feeds["first"], inputs={"second": feeds["second"]}, output="both", **ONE_STEP
    )
    assert_close(found.images[1] - feeds["first"][0], torch.autograd.grad(score.sum(), leaf)[0][0].numpy(), 1e-4)
    with pytest.raises(InputError, match="'second' is missing"):
        subject.explainer.maximize(1)


def test_classes_by_name(pictured):
    found = pictured.maximize(["egyptian cat", 3, "x:1"], steps=2)
    np.testing.assert_array_equal(found.images, pictured.maximize([1, 3, 4], steps=2).images)
    assert found.targets == ("Egyptian cat", "cup", "x:1")
    with pytest.raises(TargetError, match=r"the classes 0, 2 are all called 'crane'"):
        pictured.maximize("crane")
