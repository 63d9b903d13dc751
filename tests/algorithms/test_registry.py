"""Methods by name: the same as by function, listed with their options."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import onnxviz as ov

OPTIONS = {
    "gradient": [{}, {"layer": "features.0"}],
    "saliency": [{}, {"reduce": "mean"}],
    "guided_backprop": [{}, {"layer": 1}],
    "deconvnet": [{}],
    "input_x_gradient": [{}],
    "integrated_gradients": [{"n_steps": 2}, {"n_steps": 3, "baseline": 0.5}],
    "smooth_grad": [
        {"n_samples": 2},
        {"n_samples": 2, "kind": "square", "noise": 0.1, "around": "deconvnet", "seed": 1},
    ],
    **{
        cam: [{}, {"layer": "features.0", "upsample": False}]
        for cam in ("grad_cam", "grad_cam_pp", "layer_cam", "hires_cam", "xgrad_cam", "score_cam")
    },
    "eigen_cam": [{}, {"layer": "features.0", "centre": True}],
    "guided_grad_cam": [{}, {"layer": "features.0"}],
    "occlusion": [{}, {"window": 5, "stride": 4, "baseline": 1.0}],
    "rise": [{"n_masks": 3}, {"n_masks": 3, "cells": 2, "kept": 0.25, "seed": 1}],
}


def test_all_methods_are_listed():
    listed = {m.name: m for m in ov.methods()}
    assert set(listed) == set(OPTIONS)
    assert listed["grad_cam"].options == {"layer": "auto", "upsample": True, "grid": None}
    assert listed["saliency"].options == {"reduce": "max"}
    assert all(len(m.summary) > 20 and "\n" not in m.summary for m in listed.values())


@pytest.mark.parametrize("method", OPTIONS)
def test_explain_is_the_method(cnn, method):
    for options in OPTIONS[method]:
        by_name = cnn.explainer.explain(cnn.x(), method, 2, **options)
        direct = getattr(cnn.explainer, method)(cnn.x(), 2, **options)
        assert np.array_equal(by_name.values, direct.values)
        assert repr(by_name.options) == repr(direct.options)
        assert by_name.method == method
        assert by_name.axes == direct.axes


def test_defaults_of_functions_and_table_agree():
    """What the method of Explainer takes, ``explain`` takes, with the same default."""
    shared = {"self", "x", "target", "of", "output"}
    for method in ov.methods():
        parameters = inspect.signature(getattr(ov.Explainer, method.name)).parameters
        assert {n: p.default for n, p in parameters.items() if n not in shared} == method.options
