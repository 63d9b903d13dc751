"""Networks for series and text that are written layer by layer: recurrent and convolutional, in both frameworks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.sweep.entry import Entry, Subject

if TYPE_CHECKING:
    from torch import nn

STEPS, CHANNELS, WORDS = 12, 3, 50


def in_torch(build: Callable[[], nn.Module], *, words: bool = False) -> Subject:
    """A seeded module with two series, (N, steps, channels), or sentences."""
    import torch

    from benchmarks.sweep.families.weights import unsettled

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = unsettled(build())
        example = torch.randint(WORDS, (2, STEPS)) if words else torch.randn(2, STEPS, CHANNELS)
        return Subject(model, example)


def recurrent(cell: str, **options: Any) -> nn.Module:
    """Two recurrent layers and a classifier of their last step."""
    from benchmarks.sweep.families.torch_sequences import Recurrent

    return Recurrent(cell, CHANNELS, **options)


def of_words() -> nn.Module:
    """An embedding in front of a bidirectional LSTM."""
    from benchmarks.sweep.families.torch_sequences import Words

    return Words(WORDS)


def temporal() -> nn.Module:
    """A temporal convolutional network (Bai et al. 2018, arXiv:1803.01271)."""
    from benchmarks.sweep.families.torch_sequences import Temporal

    return Temporal(CHANNELS)


def fully_convolutional() -> nn.Module:
    """A fully convolutional network for series (Wang et al. 2017, arXiv:1611.06455)."""
    from benchmarks.sweep.families.torch_sequences import FullyConvolutional

    return FullyConvolutional(CHANNELS)


def in_keras(kinds: str) -> Subject:
    """A functional model of the named layers, one after the other, and a classifier."""
    import numpy as np

    import onnxviz_keras  # noqa: F401 - imports TensorFlow without its reports

    from keras import Model, layers, utils  # isort: skip

    utils.set_random_seed(0)
    builders: dict[str, Callable[[], layers.Layer]] = {
        "embedding": lambda: layers.Embedding(WORDS, 8),
        "LSTM": lambda: layers.LSTM(8, return_sequences=True),
        "GRU": lambda: layers.GRU(8, return_sequences=True),
        "SimpleRNN": lambda: layers.SimpleRNN(8, return_sequences=True),
        "bidirectional LSTM": lambda: layers.Bidirectional(layers.LSTM(8, return_sequences=True)),
        "bidirectional GRU": lambda: layers.Bidirectional(layers.GRU(8, return_sequences=True)),
        "last GRU": lambda: layers.GRU(8),
        "convolution": lambda: layers.Conv1D(8, 3, padding="causal", activation="relu"),
        "pooling": lambda: layers.MaxPooling1D(2),
    }
    named = kinds.split(", ")
    words = named[0] == "embedding"
    first = x = layers.Input((STEPS,), dtype="int32") if words else layers.Input((STEPS, CHANNELS))
    for kind in named:
        x = builders[kind]()(x)
    x = x if x.ndim == 2 else layers.GlobalAveragePooling1D()(x)
    model = Model(first, layers.Dense(4, activation="softmax")(x))
    rng = np.random.default_rng(0)
    return Subject(model, rng.integers(0, WORDS, (2, STEPS)).astype("int32") if words else None)


KERAS = (
    "LSTM", "GRU", "SimpleRNN", "bidirectional LSTM, GRU", "bidirectional GRU, last GRU", "embedding, LSTM",
    "convolution, pooling, LSTM",
)  # fmt: skip

ENTRIES = [
    Entry("series in PyTorch", "LSTM", partial(in_torch, partial(recurrent, "LSTM")), small=True),
    Entry("series in PyTorch", "GRU", partial(in_torch, partial(recurrent, "GRU"))),
    Entry("series in PyTorch", "RNN", partial(in_torch, partial(recurrent, "RNN"))),
    Entry("series in PyTorch", "bidirectional GRU", partial(in_torch, partial(recurrent, "GRU", bidirectional=True))),
    Entry("series in PyTorch", "embedding, LSTM", partial(in_torch, of_words, words=True)),
    Entry("series in PyTorch", "TCN", partial(in_torch, temporal), small=True),
    Entry("series in PyTorch", "FCN", partial(in_torch, fully_convolutional)),
    *(Entry("series in Keras", kinds, partial(in_keras, kinds), small=kinds == "GRU") for kinds in KERAS),
]
