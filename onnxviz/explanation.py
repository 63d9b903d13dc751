"""What every method returns: the numbers, and what they are an answer to."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import checked
from onnxviz.errors import FileFormatError, InputError, OptionError
from onnxviz.files import read_arrays, write_arrays, writing
from onnxviz.image import View, resize_linear
from onnxviz.image.geometry import WHOLE

if TYPE_CHECKING:
    from onnxviz.plot.figure import Figure

Array = npt.NDArray[Any]

ROLES = ("batch", "target", "channel", "spatial", None)


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """An explanation of a batch.

    Attributes:
        values: float32, raw as the method defines them: not normalised.
        axes: the role of each axis of ``values``: ``"batch"``, ``"target"``, ``"channel"``, ``"spatial"`` or None.
        method: the method's name.
        target: what was explained: class indices (N,) or (N, T), a float weighting or mask, or None.
        score: the explained score of each sample (N,), or of each target (N, T).
        layer: the layer it was computed at; None for the input.
        options: the method's options, with the defaults that were used.
        provider: the execution provider that ran.
        class_names: names of the model's classes, by index.
        notes: what must be known to read the values, in sentences: activations that the method leaves as they are.
        image: the pictures that were explained, uint8 RGB (N, H, W, 3), where the input was given as pictures; the
            values have their size, and plots and overlays lie over them.
        covered: the part of them that the network saw: top, left, bottom and right, as shares of height and width.

    Raises:
        OptionError: ``axes`` does not fit ``values``, or ``target`` or ``score`` does not fit them or the class names.
    """

    values: npt.NDArray[np.float32]
    axes: tuple[str | None, ...]
    method: str
    target: Array | None = None
    score: Array | None = None
    layer: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    provider: str = ""
    class_names: Sequence[str] | None = None
    notes: Sequence[str] = ()
    image: npt.NDArray[np.uint8] | None = None
    covered: tuple[float, float, float, float] = WHOLE

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, np.float32))
        object.__setattr__(self, "axes", tuple(self.axes))
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "covered", tuple(self.covered))
        if len(self.axes) != self.values.ndim or not set(self.axes) <= set(ROLES):
            raise OptionError(
                f"axes has one of {ROLES} for each axis of values; got {self.axes} for shape {self.values.shape}"
            )
        if self.target is not None and self.target.dtype.kind in "iu":
            self._require_fit("target", self.target)
            if self.class_names is not None and not (np.abs(self.target) < len(self.class_names)).all():
                raise OptionError(f"target has classes that the {len(self.class_names)} class_names do not name")
        if self.score is not None:
            self._require_fit("score", self.score)

    def _require_fit(self, name: str, given: Array) -> None:
        """What is said of samples, or of the targets of samples, is said of all; a layer may hold several of each."""
        sizes = dict(zip(self.axes, self.values.shape, strict=True))
        samples, targets = sizes.get("batch", 1), sizes.get("target", 1)
        fits = given.ndim <= 2 and given.dtype.kind in "fiu" and (given.ndim < 2 or given.shape[1] == targets)
        if not fits or (given.ndim and (not len(given) or samples % len(given))):
            raise OptionError(
                f"{name} has a number for each of {samples} samples, or of their {targets} targets; got an array of "
                f"{given.dtype} of shape {given.shape}"
            )

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:  # noqa: FBT001 - numpy's protocol
        return np.array(self.values, dtype=dtype, copy=copy)

    def derived(self, method: str, values: Array, *, layer: str | None, options: Mapping[str, Any]) -> Self:
        """Another method's explanation of the same target, computed from this one."""
        return replace(self, method=method, values=values, layer=layer, options={**self.options, **options})

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of ``values``."""
        return self.values.shape

    @property
    def spatial_axes(self) -> tuple[int, ...]:
        """The indices of the spatial axes."""
        return tuple(i for i, role in enumerate(self.axes) if role == "spatial")

    @checked
    def normalize(self, percentile: float | None = None) -> Self:
        """Each map divided by its largest absolute value: within 0 … 1, or −1 … 1 where there are negative values.

        A map is what one sample and one target have. Zero stays zero, and a map of zeros stays as it is.

        Args:
            percentile: divide by this percentile of the absolute values instead, 0 … 100, and clip to ±1: a few
                extreme pixels then do not darken the rest.

        Raises:
            OptionError: ``percentile`` lies outside.
        """
        if percentile is not None and not 0 < percentile <= 100:
            raise OptionError(f"percentile lies within 0 … 100, or is None; got {percentile!r}")
        within = tuple(i for i, role in enumerate(self.axes) if role not in {"batch", "target"})
        size = np.percentile(np.abs(self.values), 100 if percentile is None else percentile, within, keepdims=True)
        scaled = np.divide(self.values, size, out=np.sign(self.values), where=size > 0)
        return replace(self, values=np.clip(scaled, -1, 1))

    def resize(self, size: int | Sequence[int]) -> Self:
        """The maps at another size of their spatial axes, linear in each, with half-pixel centres.

        Raises:
            OptionError: ``size`` is not one positive number for each spatial axis (one number stands for all).
        """
        axes = self.spatial_axes
        listed = np.array(size, dtype=object)
        sizes: list[Any] = listed.ravel().tolist() if listed.ndim else [size] * len(axes)
        if len(sizes) != len(axes) or not all(isinstance(n, int | np.integer) and 0 < n < 2**31 for n in sizes):
            raise OptionError(f"size has a positive number for each of {len(axes)} spatial axes; got {size!r}")
        return replace(self, values=resize_linear(self.values, sizes, axes))

    def maps(self) -> npt.NDArray[np.float32]:
        """The values as maps (N, T, spatial …), channels summed; without a batch or target axis, N or T is 1.

        Raises:
            InputError: an axis has no known role, or none is spatial.
        """
        if None in self.axes or "spatial" not in self.axes:
            raise InputError(f"these values are no maps: their axes are {self.axes}; use .values")
        channels = tuple(i for i, role in enumerate(self.axes) if role == "channel")
        values: npt.NDArray[np.float32] = self.values.sum(axis=channels)
        for position, role in enumerate(("batch", "target")):
            if role not in self.axes:
                values = np.expand_dims(values, position)
        return values

    @checked
    def overlay(
        self,
        image: npt.ArrayLike | None = None,
        alpha: float = 0.5,
        mode: str = "blend",
        clip: tuple[float, float] = (10, 90),
    ) -> npt.NDArray[np.uint8]:
        """The maps over their pictures, as uint8 RGB (N, H, W, 3), or (N, T, H, W, 3) with several targets.

        Args:
            image: uint8 RGB (H, W, 3) for all samples, or (N, H, W, 3); None is the explained pictures. Of these, what
                the network did not see stays grey (black with ``"multiply"``).
            alpha: see :class:`onnxviz.plot.colours.Style`, as ``mode`` and ``clip``.
            mode: ``"blend"`` or ``"multiply"``.
            clip: percentiles for ``"multiply"``.

        Raises:
            InputError: the maps are not two-dimensional, or the pictures do not fit or are missing.
            OptionError: an impossible option.
        """
        from onnxviz.plot.arguments import images_of, maps_of
        from onnxviz.plot.colours import Style

        style = Style(mode, alpha, clip)
        maps = maps_of("values", self, 2)
        behind = self.image if image is None else image
        if behind is None:
            raise InputError("overlay needs image=, for the input was not given as a picture")
        images = images_of("image", behind, len(maps))
        _, height, width, _ = images.shape
        sized = resize_linear(maps, (height, width), (2, 3))
        result = np.repeat(images[:, None], maps.shape[1], axis=1)
        seen = View((height, width), self.covered).covered
        for n, picture in enumerate(images):
            if self.covered != WHOLE:
                result[n] = replace(style, alpha=0.0).lay(np.zeros((height, width)), picture)
            for t, values in enumerate(sized[n]):
                result[n, t][seen] = style.lay(values[seen], picture[seen])
        return result if "target" in self.axes else result[:, 0]

    @checked
    def plot(self, image: npt.ArrayLike | None = None) -> Figure:
        """A matplotlib figure: a row for each of the first samples, a column for each target; the notes stand below.

        Args:
            image: what the maps lie over; None is the explained pictures, where the input was given as pictures.
                Two-dimensional maps: uint8 RGB (H, W, 3) or (N, H, W, 3). One-dimensional ones: the signal (T,), (N, T)
                or (N, C, T). Volumes are shown in slices, without.

        Raises:
            InputError: there are no spatial axes, or ``image`` does not fit.
        """
        from onnxviz.plot import explanations

        return explanations.plot(self, image)

    @checked
    def save(self, path: str | os.PathLike[str], image: npt.ArrayLike | None = None) -> None:
        """Write to a file: ``.npz`` holds all fields, for :meth:`load`; ``.png`` is :meth:`plot` (with ``image``).

        Raises:
            OptionError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".npz":
            arrays = {name: getattr(self, name) for name in ("values", "target", "score", "image")}
            others = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in arrays}
            write_arrays(path, arrays, description=_to_json(others))
        elif path.suffix == ".png":
            picture = _png(self.plot(image))
            with writing(path) as draft:
                draft.write_bytes(picture)
        else:
            raise OptionError(f"path={str(path)!r}: an explanation is saved as .npz (all fields) or .png (the plot)")

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What :meth:`save` wrote to an ``.npz`` file; options come back as JSON has them (tuples as lists).

        Raises:
            FileFormatError: the file is another one, or damaged.
            FileAccessError: the system does not let it be read.
        """
        arrays, description = read_arrays(path, "description", "Explanation")
        try:
            found = cls.__new__(cls)
            checked(cls.__init__)(found, **arrays, **description)
        except (TypeError, ValueError) as error:
            raise FileFormatError(f"{str(path)!r} holds no Explanation, or is damaged: {error}") from error
        return found

    def __repr__(self) -> str:
        parts = [f"{self.method} {self.values.shape}"]
        parts += [f"at {self.layer!r}"] if self.layer is not None else []
        parts += [f"target {names}"] if (names := self._target_names()) else []
        parts += [f"score {np.array2string(self.score, precision=4, threshold=6)}"] if self.score is not None else []
        parts += [f"values {self.values.min():.4g} … {self.values.max():.4g}"] if self.values.size else []
        parts += [self.provider] if self.provider else []
        return f"<Explanation: {'; '.join([', '.join(parts), *self.notes])}>"

    def _repr_png_(self) -> bytes | None:
        """The plot, for notebooks; what cannot be drawn prints as text."""
        from onnxviz.plot import explanations

        drawable = None not in self.axes and 1 <= len(self.spatial_axes) <= 3 and self.values.size
        return explanations.in_notebook(self)._repr_png_() if drawable else None

    @checked
    def title(self, sample: int, target: int = 0) -> str:
        """The name of the class that a map explains, with its score, as far as they are known."""
        parts = []
        if self.target is not None and self.target.dtype.kind in "iu":
            parts.append(self._name(self.target[sample] if self.target.ndim == 1 else self.target[sample, target]))
        if self.score is not None:
            parts.append(f"{self.score[sample] if self.score.ndim == 1 else self.score[sample, target]:.4g}")
        return " · ".join(parts) or self.method

    def _name(self, index: int) -> str:
        return str(index) if self.class_names is None else self.class_names[index]

    def _target_names(self) -> str:
        if self.target is None:
            return ""
        if self.target.dtype.kind not in "iu":
            return f"weighting {self.target.shape}"
        named = [self._name(index) for index in self.target.flat[:4]]
        return ", ".join(named) + (", …" if self.target.size > 4 else "")


def _to_json(value: Any) -> str:
    """JSON, in which arrays are lists, mappings dictionaries, and numpy's numbers plain ones."""

    def plain(item: Any) -> Any:
        if isinstance(item, np.ndarray | np.generic):
            return item.tolist()
        return dict(item) if isinstance(item, Mapping) else str(item)

    return json.dumps(value, default=plain)


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
