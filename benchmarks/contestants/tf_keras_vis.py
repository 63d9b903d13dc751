"""tf-keras-vis, on the Keras twin."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from benchmarks.contestants.base import Absent
from benchmarks.contestants.ours import channels_last
from benchmarks.contestants.tensorflow import InTensorFlow
from benchmarks.subject import Question

import tensorflow as tf  # isort: skip
from tf_keras_vis.gradcam import Gradcam  # isort: skip
from tf_keras_vis.saliency import Saliency  # isort: skip
from tf_keras_vis.utils.scores import CategoricalScore  # isort: skip


class TfKerasVis(InTensorFlow):
    """Its Saliency, and its Gradcam with linear resizing, as its own is cubic; maps are scaled to 0 … 1."""

    name = "tf-keras-vis"

    def answer(self, question: Question) -> Callable[[], Any]:
        """One call of its object."""
        x, score = channels_last(question).x, CategoricalScore(question.classes.tolist())
        if question.method == "saliency":
            method = Saliency(self.model, clone=False)
            return lambda: _quietly(lambda: method(score, x))
        if question.method != "grad_cam" or x.ndim != 4:
            raise Absent("it is compared by its Saliency, and by its Gradcam of pictures")
        cam = Gradcam(self.model, clone=False)
        as_asked = {"seek_penultimate_conv_layer": False, "expand_cam": False}

        def run() -> Any:
            maps = _quietly(lambda: cam(score, x, penultimate_layer=self.twin.layer, **as_asked))
            return tf.image.resize(maps[..., None], x.shape[1:3])[..., 0].numpy()

        return run


def _quietly(called: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it gives Keras a list of one input
        return called()
