"""Two photos side by side: the map of each one's class lies on its own half."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

import zoo

CLASSES = {"chelsea": 285, "coffee": 967, "persian": 283, "siamese": 284, "camera": 872}


@pytest.mark.parametrize(
    ("name", "layer", "least", "mean"),
    [
        ("efficientnet_lite0", "_bn1", 40, 0.9),
        ("squeezenet", "fire9.concat", 36, 0.7),
        ("squeezenet_keras", "fire9_concat", 36, 0.7),
    ],
)
def test_grad_cam_lies_on_the_classs_own_half(converted, photos, name, layer, least, mean):
    explainer = converted(name).explainer
    pairs = list(permutations(CLASSES, 2))
    pictures = [zoo.side_by_side(photos[left], photos[right], explainer.image_input) for left, right in pairs]
    x = np.concatenate([explainer.image_input.encode(picture) for picture in pictures])
    targets = np.array([[CLASSES[left], CLASSES[right]] for left, right in pairs])
    maps = explainer.grad_cam(x, targets, layer=layer).values
    assert maps.shape == (20, 2, *explainer.image_input.size)
    middle = maps.shape[-1] // 2
    left = maps[..., :middle].sum((2, 3)) / maps.sum((2, 3))
    own = np.stack([left[:, 0], 1 - left[:, 1]], axis=1)
    assert (own > 0.5).sum() >= least, np.round(own, 2)
    assert own.mean() >= mean
