"""What is known of real networks since Adebayo 2018: guided backprop hardly depends on what they learned."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov

UPPER = ["conv10", "fire9.expand3x3", "fire9.squeeze1x1", "fire8.squeeze1x1", "fire7.squeeze1x1", "fire6.squeeze1x1"]
"""SqueezeNet's upper half, thinned out; below lie as many layers again."""


@pytest.mark.slow
def test_guided_backprop_fails_and_gradient_and_grad_cam_pass(converted, photos):
    explainer = converted("squeezenet").explainer
    x = np.concatenate([explainer.read_image(photos[name]) for name in ("chelsea", "coffee")])
    found = ov.sanity_check(
        explainer, x, methods=["gradient", "guided_backprop", "grad_cam"], orders=["cascading"],
        layers=[*UPPER, "fire4.squeeze1x1", "fire3.squeeze1x1", "fire2.squeeze1x1", "conv1"],
    )  # fmt: skip
    assert found.passed == {"gradient": True, "guided_backprop": False, "grad_cam": True}
    curves = {method: found.similarity["cascading"][method]["spearman"] for method in found.methods}
    assert curves["guided_backprop"][: len(UPPER)].min() > 0.85
    assert curves["gradient"].max() < 0.6
    assert curves["grad_cam"].mean() < 0.4
