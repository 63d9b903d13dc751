"""pytorch-grad-cam's calls, answered by the package and by an explainer."""

from __future__ import annotations

import sys
import warnings
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz as ov
from onnxviz.compat import grad_cam as compat
from onnxviz.errors import InputError, OptionError, TargetError
from tests.support import normal

ABSENT = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
"""What the package imports and none of its functions below uses."""
BAR = 1e-5
"""Of maps from 0 to 1."""
CLASSES = (1, 3, 0)


class Network(nn.Module):
    """Two layers, one at the input's size, and five logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.head = nn.Conv2d(8, 6, 3), nn.ReLU(), nn.Linear(6, 5)

    def forward(self, image):
        found = self.relu2(self.conv2(self.pool(self.relu1(self.conv1(image)))))
        return self.head(found.mean((2, 3)))


@pytest.fixture(scope="module")
def package():
    """pytorch-grad-cam, imported without torchvision."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ABSENT:
            patch.setitem(sys.modules, name, MagicMock())
        import pytorch_grad_cam
        from pytorch_grad_cam.utils import model_targets, svd_on_activations

        pytorch_grad_cam.targets, pytorch_grad_cam.projection = model_targets, svd_on_activations.get_2d_projection
    return pytorch_grad_cam


def converted(folder, *, scores: int = 5, steep: float = 1.0):
    """The network, its scores times a number, and its explainer."""
    torch.manual_seed(0)
    model = Network().eval()
    model.head = nn.Linear(6, scores)
    model.head.weight.data *= steep
    path = ov.convert(model, folder / "net.onnx", example=normal(2, 3, 12, 12), quiet=True)
    return model, ov.load(path, providers="cpu", threads=1)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("net"))


@pytest.fixture
def x():
    return torch.tensor(normal(3, 3, 12, 12, seed=1))


def maps_of(package, name, model, layers, x, targets):
    with getattr(package, name)(model, [model.get_submodule(layer) for layer in layers]) as cam:
        return cam(x, targets)


def assert_same(found, expected) -> None:
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    assert expected.max() > 0.9
    np.testing.assert_allclose(found, expected, atol=BAR)


@pytest.mark.parametrize("name", ["GradCAM", "LayerCAM", "HiResCAM", "XGradCAM"])
@pytest.mark.parametrize("layers", [["conv2"], ["relu1"], ["conv2", "relu1"]], ids="+".join)
@pytest.mark.parametrize("kind", [None, "ClassifierOutputTarget", "ClassifierOutputSoftmaxTarget"])
def test_maps(package, both, x, name, layers, kind):
    """With the package's own targets and with ours."""
    model, ex = both
    theirs, ours = (kind and [getattr(each, kind)(c) for c in CLASSES] for each in (package.targets, compat))
    expected = maps_of(package, name, model, layers, x, theirs)
    for targets in (theirs, ours):
        assert_same(getattr(compat, name)(ex, layers)(x, targets), expected)


def test_plus_plus(package, tmp_path, x):
    """Of scores so steep that the package's constant does not count."""
    model, ex = converted(tmp_path, steep=1e4)
    expected = maps_of(package, "GradCAMPlusPlus", model, ["conv2"], x, None)
    assert_same(compat.GradCAMPlusPlus(ex, ["conv2"])(x), expected)


def test_score_cam(package, both, x):
    """At a layer of the input's size, where nothing is resized."""
    model, ex = both
    targets = [compat.ClassifierOutputTarget(c) for c in CLASSES]
    theirs = [package.targets.ClassifierOutputTarget(c) for c in CLASSES]
    assert_same(compat.ScoreCAM(ex, ["relu1"])(x, targets), maps_of(package, "ScoreCAM", model, ["relu1"], x, theirs))


def test_eigen_cam(package, both, x):
    """Either sign of the package's projection, which it does not settle."""
    _, ex = both
    projection = package.projection(ex.features(x, "conv2")["conv2"])
    found = compat.EigenCAM(ex, ["conv2"])(x)
    for one, either in zip(found, zip(projection, -projection, strict=True), strict=True):
        scale = package.utils.image.scale_cam_image
        signs = [scale(scale(np.maximum(each, 0)[None], (12, 12)))[0] for each in either]
        assert min(np.abs(one - sign).max() for sign in signs) < BAR


def test_guided_backprop(package, both, x):
    model, ex = both
    for category in (None, 2):
        expected = package.GuidedBackpropReLUModel(model)(x[:1].clone(), category)
        found = compat.GuidedBackpropReLUModel(ex)(x, category)
        assert found.shape == (12, 12, 3)
        np.testing.assert_allclose(found, expected, atol=BAR * np.abs(expected).max())


def test_segmentation(package, subjects):
    subject = subjects("segmenter")
    x, mask = torch.tensor(subject.x(2)), np.zeros((4, 4), np.float32)
    mask[1:3, :2] = 1
    theirs, ours = (
        [each.SemanticSegmentationTarget(c, m) for c, m in ((2, mask), (0, mask.T.copy()))]
        for each in (package.targets, compat)
    )
    expected = maps_of(package, "GradCAM", subject.model, ["body"], x, theirs)
    for targets in (theirs, ours):
        assert_same(compat.GradCAM(subject.explainer, ["body"])(x, targets), expected)


def test_a_single_score(package, tmp_path, x):
    """Without targets its score, even where the decision is against; with a target either side."""
    model, ex = converted(tmp_path, scores=1)
    for sides in (None, (1, 0, 1)):
        theirs, ours = (
            sides and [each.BinaryClassifierOutputTarget(side) for side in sides] for each in (package.targets, compat)
        )
        expected = maps_of(package, "GradCAM", model, ["conv2"], x, theirs)
        assert_same(compat.GradCAM(ex, ["conv2"])(x, ours), expected)


def test_nothing_need_be_said_but_the_explainer(both, x):
    _, ex = both
    with compat.GradCAM(model=ex) as cam:
        found = cam(input_tensor=x.numpy(), targets=[compat.ClassifierOutputTarget(c) for c in CLASSES])
    expected = ex.grad_cam(x, np.array(CLASSES), upsample=False)
    assert [one.argmax() for one in found] != [0, 0, 0]
    np.testing.assert_array_equal(
        found, compat.GradCAM(ex, [expected.layer])(x, [*map(compat.ClassifierOutputTarget, CLASSES)])
    )


ONE = [compat.ClassifierOutputTarget(1)]
REFUSED = {
    "a module": (lambda ex, x: compat.GradCAM(nn.Linear(2, 2)), OptionError, "model is a Linear"),
    "modules as layers": (lambda ex, x: compat.GradCAM(ex, [nn.ReLU()]), OptionError, "holds a ReLU; expected names"),
    "one layer": (lambda ex, x: compat.GradCAM(ex, "conv1"), OptionError, "target_layers is a str; expected a list"),
    "a reshape": (lambda ex, x: compat.GradCAM(ex, None, len), OptionError, "reshape_transform=.*not offered"),
    "augmented": (lambda ex, x: compat.GradCAM(ex)(x, aug_smooth=True), OptionError, "aug_smooth=True"),
    "too few": (lambda ex, x: compat.GradCAM(ex)(x, ONE), TargetError, "1 entries for 3 samples"),
    "of several kinds": (lambda ex, x: compat.GradCAM(ex)(x, [*ONE, *ONE, compat.BinaryClassifierOutputTarget(1)]),
                         OptionError, "BinaryClassifierOutputTarget, ClassifierOutputTarget: expected one"),
    "one class": (lambda ex, x: compat.GradCAM(ex)(x, 281), OptionError, "a list of one for each sample.*got 281"),
    "classes by number": (lambda ex, x: compat.GradCAM(ex)(x, [1, 2, 3]), OptionError, "of kind int: expected"),
    "no single score": (lambda ex, x: compat.GradCAM(ex)(x, 3 * [compat.BinaryClassifierOutputTarget(1)]), TargetError,
                        "a single score"),
    "no batch": (lambda ex, x: compat.GradCAM(ex)(1.0), InputError, "input_tensor is a batch"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(both, x, case):
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call(both[1], x)
