"""The ascent written a second time, in numpy: what the graphs of :mod:`onnxviz.algorithms.steps` are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from onnxviz.algorithms.parameterization import COLOURS


class Spectrum:
    """Images from their Hartley spectrum by the fast Fourier transform, in float64."""

    def __init__(self, shape: Sequence[int], spatial: Sequence[int], colours: int | None, limits, order="RGB") -> None:
        self.spatial, self.colours, self.limits = tuple(spatial), colours, limits
        frequencies = np.meshgrid(*(np.fft.fftfreq(shape[axis]) for axis in spatial), indexing="ij")
        scale = 1 / np.maximum(np.sqrt(sum(f * f for f in frequencies)), 1 / max(shape[axis] for axis in spatial))
        scale /= np.sqrt((scale**2).mean())
        self.scale = scale.reshape([n if i in spatial else 1 for i, n in enumerate(shape)])
        self.mix = COLOURS[:: 1 if order == "RGB" else -1] / np.sqrt((COLOURS**2).sum(1).mean())

    def decode(self, numbers):
        images = self._mixed(self._hartley(self.scale * numbers), self.mix)
        if self.limits is None:
            return images
        middle, half = self._range()
        return middle + half * np.tanh(images / half)

    def encode(self, images):
        if self.limits is not None:
            middle, half = self._range()
            images = half * np.arctanh(np.clip((images - middle) / half, -0.99, 0.99))
        return self._hartley(self._mixed(images, np.linalg.inv(self.mix))) / self.scale

    def pull(self, images, gradient):
        if self.limits is not None:
            middle, half = self._range()
            gradient = gradient * (1 - ((images - middle) / half) ** 2)
        return self.scale * self._hartley(self._mixed(gradient, self.mix.T))

    def _hartley(self, values):
        spectrum = np.fft.fftn(values, axes=self.spatial, norm="ortho")
        return spectrum.real - spectrum.imag

    def _mixed(self, images, mix):
        if self.colours is None:
            return images
        return np.moveaxis(np.moveaxis(images, self.colours, -1) @ mix.T, -1, self.colours)

    def _range(self):
        return sum(self.limits) / 2, (self.limits[1] - self.limits[0]) / 2


@dataclass(frozen=True)
class Plain:
    """Images as they are, within limits."""

    limits: tuple[float, float] | None

    def decode(self, numbers):
        return numbers if self.limits is None else np.clip(numbers, *self.limits)

    def encode(self, images):
        return images

    def pull(self, _images, gradient):
        return gradient


class Resampling:
    """Multilinear interpolation at ``matrix · place`` from the centre, around the edges."""

    def __init__(self, matrix, shape: Sequence[int], spatial: Sequence[int]) -> None:
        self.spatial = tuple(spatial)
        sizes = [shape[axis] for axis in spatial]
        centre = (np.array(sizes)[:, None] - 1) / 2
        sources = matrix @ (np.indices(sizes).reshape(len(sizes), -1) - centre) + centre
        low = np.floor(sources).astype(np.int64)
        self.corners, self.weights = [], []
        for corner in product((0, 1), repeat=len(sizes)):
            up = np.array(corner)[:, None]
            self.corners.append(np.ravel_multi_index(tuple(low + up), sizes, mode="wrap"))
            self.weights.append(np.where(up, sources - low, 1 - sources + low).prod(0))

    def forward(self, images):
        rows, shape = self._rows(images)
        return self._back(sum(w * rows[:, c] for c, w in zip(self.corners, self.weights, strict=True)), shape)

    def adjoint(self, gradient):
        rows, shape = self._rows(gradient)
        sums = np.zeros_like(rows)
        for corner, weight in zip(self.corners, self.weights, strict=True):
            np.add.at(sums.T, corner, (weight * rows).T)
        return self._back(sums, shape)

    def _rows(self, images):
        moved = np.moveaxis(images, self.spatial, range(-len(self.spatial), 0)).astype(np.float64)
        return moved.reshape(-1, len(self.corners[0])), moved.shape

    def _back(self, rows, shape):
        return np.moveaxis(rows.reshape(shape), range(-len(self.spatial), 0), self.spatial)


def maps_of(random, shape, spatial, *, jitter=0, scale=(1.0, 1.0), rotation=0.0):
    """One step's transformations: (forward, adjoint) of each."""
    maps = []
    if jitter:
        shifts = random.integers(-jitter, jitter + 1, len(spatial))
        maps.append((lambda x: np.roll(x, shifts, spatial), lambda g: np.roll(g, -shifts, spatial)))
    if rotation or scale != (1.0, 1.0):
        angle = np.radians(random.uniform(-rotation, rotation))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        matrix = np.eye(len(spatial)) / random.uniform(*scale)
        resampling = Resampling(matrix @ turn if rotation else matrix, shape, spatial)
        maps.append((resampling.forward, resampling.adjoint))
    return maps


class Steps:
    """The optimisers."""

    def __init__(self, name: str, rate: float) -> None:
        self.name, self.rate, self.step, self.mean, self.square = name, rate, 0, 0.0, 0.0

    def move(self, gradient):
        self.step += 1
        if self.name == "normalized":
            gradient = gradient / np.sqrt((gradient**2).mean(tuple(range(1, gradient.ndim)), keepdims=True))
        elif self.name == "rmsprop":
            self.square = 0.9 * self.square + 0.1 * gradient**2
            gradient = gradient / np.sqrt(self.square)
        elif self.name == "adam":
            self.mean = 0.9 * self.mean + 0.1 * gradient
            self.square = 0.999 * self.square + 0.001 * gradient**2
            gradient = self.mean / (1 - 0.9**self.step) / np.sqrt(self.square / (1 - 0.999**self.step))
        return self.rate * gradient


def power_slope(p, weight):
    """Of weight · Σ|x|ᵖ / n."""
    return lambda x, _: p * weight / x[0].size * np.abs(x) ** (p - 1) * np.sign(x)


def variation_slope(weight):
    """Of weight · Σ Δ² / n: minus the differences of the differences."""

    def slope(x, spatial):
        ends = {axis: [(1, 1) if i == axis else (0, 0) for i in range(x.ndim)] for axis in spatial}
        return -2 * weight / x[0].size * sum(np.diff(np.pad(x, ends[a], mode="edge"), n=2, axis=a) for a in spatial)

    return slope


def blurred(images, spatial, sigma):
    """By a Gaussian cut at 3·sigma, with the edges repeated."""
    radius = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    for axis in spatial:
        ends = [(radius, radius) if i == axis else (0, 0) for i in range(images.ndim)]
        images = np.apply_along_axis(
            np.convolve, axis, np.pad(images, ends, mode="edge"), kernel / kernel.sum(), "valid"
        )
    return images


def ascend(ask: Callable, numbers, parameters, optimizer: Steps, steps: int, random, spatial, **options):
    """The images after so many steps; ``ask`` gives scores and gradients of images.

    Options are ``slopes`` of penalties, ``blur`` (sigma, every), and those of :func:`maps_of`.
    """
    slopes, blur = options.pop("slopes", ()), options.pop("blur", None)
    for step in range(1, steps + 1):
        images = parameters.decode(numbers)
        seen, maps = images, maps_of(random, images.shape, spatial, **options)
        for forward, _ in maps:
            seen = forward(seen)
        _, gradient = ask(seen)
        for _, adjoint in reversed(maps):
            gradient = adjoint(gradient)
        gradient = gradient - sum(slope(images, spatial) for slope in slopes)
        numbers = numbers + optimizer.move(parameters.pull(images, gradient))
        if isinstance(parameters, Plain):
            numbers = parameters.decode(numbers)
        if blur and step % blur[1] == 0:
            numbers = parameters.encode(blurred(parameters.decode(numbers), spatial, blur[0]))
    return parameters.decode(numbers)
