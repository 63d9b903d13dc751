"""What holds for all tests of the Keras converter."""

from __future__ import annotations

import os

import pytest

import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

# isort: split
import keras
import tensorflow as tf

if "PYTEST_XDIST_WORKER" in os.environ:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(0)
