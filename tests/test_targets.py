"""Targets beyond classes, against autograd of the score that each names."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch.nn import functional

import onnxviz as ov
from onnxviz.errors import TargetError
from tests.networks import Cnn, Segmenter, normal
from tests.support import Subject, assert_close, torch_gradient


class ChannelsLast(Segmenter):
    """Logits (N, 4, 4, 4) whose last axis counts the classes."""

    def forward(self, image):
        return super().forward(image).permute(0, 2, 3, 1)


class Detector(Segmenter):
    """Sixteen boxes of four numbers, (N, 16, 4)."""

    def forward(self, image):
        return super().forward(image).flatten(2).transpose(1, 2)


class BoxesLast(Segmenter):
    """The same as (N, 4, 16)."""

    def forward(self, image):
        return super().forward(image).flatten(2)


class Embedder(Cnn):
    """Embeddings (N, 5) of length 1."""

    def forward(self, image):
        return functional.normalize(super().forward(image))


NETWORKS = {network.__name__: network for network in (Segmenter, ChannelsLast, Detector, BoxesLast, Cnn, Embedder)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function from one of these networks' names to it and its explainable file."""
    folder, known = tmp_path_factory.mktemp("targets"), {}

    def find(name):
        if name not in known:
            torch.manual_seed(0)
            model = NETWORKS[name]().eval()
            path = ov.convert(model, folder / f"{name}.onnx", example=images(name), quiet=True)
            known[name] = Subject(name, model, path)
        return known[name]

    return find


def images(name):
    return normal(3, 3, 12, 12) if issubclass(NETWORKS[name], Cnn) else normal(3, 3, 8, 8)


def assert_explains(subject, target, score):
    """The target's gradient is autograd's of the score (N,), and the score is reported."""
    x = images(subject.name)
    found = subject.explainer.gradient(x, target)
    assert_close(found, torch_gradient(subject.model, {"image": x}, score))
    assert_close(found.score, score(subject.model(torch.tensor(x))).detach().numpy())


def shape_of(subject):
    return subject.explainer.predict(images(subject.name)).shape


MASK = normal(4, 4, seed=3) > 0
OWN_MASKS = np.abs(normal(3, 4, 4, seed=4))


@pytest.mark.parametrize(
    "mask", [MASK, MASK.astype(int), MASK / MASK.sum(), OWN_MASKS], ids=["bool", "int", "mean", "own"]
)
@pytest.mark.parametrize("class_index", [2, -2])
@pytest.mark.parametrize(("name", "axis"), [("Segmenter", 1), ("ChannelsLast", -1), ("ChannelsLast", 3)])
def test_a_class_inside_a_mask(made, name, axis, class_index, mask):
    subject = made(name)
    target = ov.targets.segmentation(mask, class_index, shape_of(subject), channel_axis=axis)
    assert (target.shape, target.dtype) == ((3, 4, 4, 4), np.float32)
    weights = torch.tensor(np.asarray(mask, np.float32))
    assert_explains(subject, target, lambda y: (y.select(axis, 2) * weights).sum((1, 2)))


def test_what_the_network_takes_for_a_class_is_a_mask(made):
    subject = made("Segmenter")
    logits = subject.explainer.predict(images("Segmenter"))
    inside = logits.argmax(1) == 1
    assert 0 < inside.sum() < inside.size
    weights = torch.tensor(inside)
    assert_explains(
        subject, ov.targets.segmentation(inside, 1, logits.shape), lambda y: (y[:, 1] * weights).sum((1, 2))
    )


def test_a_mask_for_every_method(made):
    """A map of a layer, and one that is made of scores, take the target as they take a class."""
    ex, x = made("Segmenter").explainer, images("Segmenter")
    everywhere = ov.targets.segmentation(np.ones((4, 4)), 2, (3, 4, 4, 4))
    for method in ("grad_cam", "score_cam", "occlusion", "smooth_grad"):
        options = {"layer": "body"} if method.endswith("cam") else {}
        assert_close(ex.explain(x, method, everywhere, **options), ex.explain(x, method, 2, **options).values, 1e-6)


def test_masks_of_series_and_volumes():
    series = ov.targets.segmentation([True, False, True], 1, (2, 4, 3))
    assert series[:, 1].tolist() == [[1, 0, 1]] * 2
    assert series.sum() == 4
    volume = ov.targets.segmentation(np.arange(8).reshape(2, 2, 2), 0, (1, 2, 2, 2, 5), channel_axis=-1)
    assert volume[0, ..., 0].ravel().tolist() == list(range(8))
    assert volume.sum() == 28


BOXES = {
    "one": (5, lambda y: y[:, 5]),
    "from the end": (-1, lambda y: y[:, 15]),
    "several": ([0, 3, 15], lambda y: y[:, [0, 3, 15]].sum(1)),
    "one of each sample": ([[4], [0], [9]], lambda y: y[range(3), [4, 0, 9]]),
    "several of each sample": (
        np.array([[4, 1], [0, 2], [9, 9]]),
        lambda y: y[range(3), [4, 0, 9]] + y[range(3), [1, 2, 9]],
    ),
}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize(("name", "axis"), [("Detector", 1), ("BoxesLast", 2)])
def test_an_entry_of_boxes(made, name, axis, case):
    subject, (boxes, score) = made(name), BOXES[case]
    target = ov.targets.box(boxes, 3, shape_of(subject), box_axis=axis)
    assert target.dtype == np.float32
    assert_explains(subject, target, lambda y: score(y.select(3 - axis, 3)))


def test_the_best_box_of_a_class(made):
    subject = made("Detector")
    scores = subject.explainer.predict(images("Detector"))
    best = scores[:, :, 1].argmax(1)[:, None]
    assert len(set(best.ravel())) > 1
    assert_explains(subject, ov.targets.box(best, 1, scores.shape), lambda y: y[:, :, 1].max(1).values)


REFERENCE, OWN_REFERENCES = normal(5, seed=6), normal(3, 5, seed=7)


def cosine(reference):
    return lambda y: functional.cosine_similarity(y, torch.tensor(reference).expand(len(y), -1))


@pytest.mark.parametrize("reference", [REFERENCE, OWN_REFERENCES], ids=["one", "own"])
def test_similarity_of_embeddings_of_length_one_is_their_cosine(made, reference):
    assert_explains(made("Embedder"), ov.targets.similarity(3 * reference), cosine(reference))


@pytest.mark.parametrize("reference", [REFERENCE, OWN_REFERENCES], ids=["one", "own"])
def test_similarity_is_the_length_along_the_reference(made, reference):
    along = torch.tensor(reference) / torch.tensor(reference).norm(dim=-1, keepdim=True)
    assert_explains(made("Cnn"), ov.targets.similarity(reference), lambda y: (y * along).sum(1))


@pytest.mark.parametrize("reference", [REFERENCE, OWN_REFERENCES], ids=["one", "own"])
def test_the_gradient_of_the_cosine_itself(made, reference):
    subject, x = made("Cnn"), images("Cnn")
    target = ov.targets.similarity(reference, subject.explainer.predict(x))
    found = subject.explainer.gradient(x, target)
    assert_close(found, torch_gradient(subject.model, {"image": x}, cosine(reference)))
    np.testing.assert_allclose(found.score, 0, atol=1e-6)


def test_the_cosine_with_itself_is_at_its_summit(made):
    y = made("Cnn").explainer.predict(images("Cnn"))
    np.testing.assert_allclose(ov.targets.similarity(y, y), 0, atol=1e-7)


LOGITS = (3, 5, 4, 6)
INSIDE = np.ones((4, 6))

REFUSED = {
    "a mask of the input's size": (lambda t: t.segmentation(np.ones((8, 12)), 0, LOGITS), "has shape [4, 6]"),
    "a mask of another batch": (lambda t: t.segmentation(np.ones((2, 4, 6)), 0, LOGITS), "got [2, 4, 6]"),
    "an empty mask": (lambda t: t.segmentation(0 * INSIDE, 0, LOGITS), "the mask is empty"),
    "a mask of NaN": (lambda t: t.segmentation(np.nan * INSIDE, 0, LOGITS), "the mask contains NaN"),
    "a mask of text": (lambda t: t.segmentation([["a"]], 0, LOGITS), "the mask has dtype <U1"),
    "a ragged mask": (lambda t: t.segmentation([[1], [1, 2]], 0, LOGITS), "the mask: not an array"),
    "an unknown class": (lambda t: t.segmentation(INSIDE, 5, LOGITS), "class_index=5: expected an integer from 0 to 4"),
    "a class that is no number": (lambda t: t.segmentation(INSIDE, "cat", LOGITS), "class_index='cat'"),
    "a truth for a class": (lambda t: t.segmentation(INSIDE, True, LOGITS), "class_index=True"),
    "an unknown axis": (lambda t: t.segmentation(INSIDE, 0, LOGITS, channel_axis=4), "channel_axis=4"),
    "the axis of samples": (lambda t: t.segmentation(INSIDE, 0, LOGITS, channel_axis=-4), "counts the samples"),
    "an open shape": (lambda t: t.segmentation(INSIDE, 0, ("N", 5, 4, 6)), "expected the output's shape in numbers"),
    "a number for a shape": (lambda t: t.segmentation(INSIDE, 0, 5), "expected the output's shape in numbers"),
    "boxes of an image": (lambda t: t.box(0, 0, LOGITS), "got shape [3, 5, 4, 6]"),
    "an unknown box": (lambda t: t.box(10, 0, (2, 10, 4)), "this output has 10 boxes, 0 … 9"),
    "an unknown box from the end": (lambda t: t.box([0, -11], 0, (2, 10, 4)), "this output has 10 boxes"),
    "a share of a box": (lambda t: t.box(0.5, 0, (2, 10, 4)), "boxes=0.5: expected an integer"),
    "no box": (lambda t: t.box([], 0, (2, 10, 4)), "boxes=[]: expected an integer"),
    "ragged boxes": (lambda t: t.box([[1], [1, 2]], 0, (2, 10, 4)), "boxes: not an array"),
    "boxes of other samples": (lambda t: t.box([[1]] * 3, 0, (2, 10, 4)), "boxes of shape [3, 1] for 2 samples"),
    "an unknown entry": (lambda t: t.box(0, 4, (2, 10, 4)), "entry=4: expected an integer from 0 to 3"),
    "boxes along the samples": (lambda t: t.box(0, 0, (2, 10, 4), box_axis=0), "box_axis=0 counts the samples"),
    "a reference of length 0": (lambda t: t.similarity(np.zeros(5)), "the reference has length 0"),
    "a reference without axes": (lambda t: t.similarity(2.0), "the reference has shape []"),
    "an infinite reference": (lambda t: t.similarity([1, np.inf]), "the reference contains NaN or infinity"),
    "an embedding of length 0": (lambda t: t.similarity([1, 2], np.zeros((3, 2))), "the embedding has length 0"),
    "an embedding of another size": (lambda t: t.similarity([1, 2], np.ones((3, 4))), "got [3, 4] and [2]"),
    "an embedding without samples' axis": (lambda t: t.similarity([1, 2], [1, 2]), "got [2] and [2]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(TargetError, match=re.escape(words)):
        make(ov.targets)
