"""What ``maximize`` and ``deep_dream`` return: images, and what they are an answer to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from onnxviz.arguments import as_array, checked
from onnxviz.decoding import decoded
from onnxviz.errors import FileFormatError, InputError, OptionError
from onnxviz.files import read_arrays, write_arrays, writing
from onnxviz.image import ImageInput, Pixels
from onnxviz.manifest import Axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARRAYS = ("images", "score", "scores", "snapshots")


@dataclass(frozen=True, eq=False, repr=False)
class Maximization:
    """Inputs that maximise units of a network.

    Attributes:
        images: (N, …) float32, as the model takes them.
        score: (N,) of these images.
        scores: (steps, N) on the way: of the image before each step, as it was shifted, scaled and turned then.
        targets: what each image maximises, for titles.
        axes: what the axes of ``images`` mean.
        options: with the defaults that were used.
        snapshots: (k, N, …) images on the way, or None.
        snapshot_steps: the step before which each was taken; the last is the number of steps.
        image_input: how the file prepares pictures, which tells what its pixels are; None where it does not say.
        provider: the execution provider that ran.
        notes: what must be known to read the images, in sentences.
    """

    images: npt.NDArray[np.float32]
    score: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    targets: tuple[str, ...]
    axes: Axes
    options: Mapping[str, Any] = field(default_factory=dict)
    snapshots: npt.NDArray[np.float32] | None = None
    snapshot_steps: tuple[int, ...] = ()
    image_input: ImageInput | None = None
    provider: str = ""
    notes: tuple[str, ...] = ()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:  # noqa: FBT001 - numpy's
        return np.array(self.images, dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.images)

    @checked
    def pixels(self, images: npt.ArrayLike | None = None, *, stretch: bool = False) -> Pixels:
        """RGB pixels (N, H, W, 3) of the images, or of others of this model, such as a snapshot.

        With ``stretch``, and where the file does not describe its pictures, each image's own range, without its extreme
        0.5 %, becomes 0 … 255: what strong regularisers leave is faint.

        Raises:
            InputError: the images have not two spatial axes and one or three channels.
        """
        x = as_array(self.images if images is None else images, "images")
        if x.dtype.kind not in "fiub":
            raise InputError(f"images holds numbers; got an array of {x.dtype}")
        x = x.astype(np.float32, copy=False)
        if self.image_input is not None:
            if not stretch:
                return self.image_input.pixels(x)
            x = np.moveaxis(x, self.axes.channel or 0, -1) * self.image_input.std + self.image_input.mean
            x = x.astype(np.float32)
            return _stretched(x[..., ::-1] if self.image_input.channels == "BGR" else x)
        if len(self.axes.spatial) != 2 or x.ndim not in (3, 4):
            raise InputError(f"images of shape {list(x.shape)} are no pictures: they have not two (known) spatial axes")
        x = x[..., None] if self.axes.channel is None else np.moveaxis(x, self.axes.channel, -1)
        if x.shape[-1] not in (1, 3):
            raise InputError(f"images with {x.shape[-1]} channels are no pictures: one or three can be shown")
        return _stretched(x)

    @checked
    def plot(self, *, columns: int | None = None, stretch: bool = False) -> Figure:
        """A matplotlib figure of all images, with target and score: pictures, curves, or slices of volumes.

        Args:
            columns: of pictures; None makes the sheet about square.
            stretch: of pictures, see :meth:`pixels`.

        Raises:
            InputError: the images have no spatial axes.
        """
        from onnxviz.plot.maximization import plot

        return plot(self, columns=columns, stretch=stretch)

    @checked
    def gif(self, path: str | os.PathLike[str], *, seconds: float = 3.0) -> None:
        """Write the snapshots as an animation that repeats, the images of a batch side by side.

        Raises:
            OptionError: there are fewer than two snapshots, or another suffix.
            InputError: the images are no pictures.
        """
        if self.snapshots is None or len(self.snapshots) < 2:
            raise OptionError("an animation needs snapshots: ask for them with snapshots=30, say")
        if Path(path).suffix != ".gif":
            raise OptionError(f"path={str(path)!r}: an animation is a .gif")
        if not 0 < seconds <= 600:
            raise OptionError(f"seconds={seconds!r}: an animation takes more than 0 and at most 600 seconds")
        from PIL import Image

        frames = [Image.fromarray(np.concatenate(self.pixels(one), axis=1)) for one in self.snapshots]
        step = round(1000 * seconds / len(frames))
        with writing(path) as draft:
            frames[0].save(draft, save_all=True, append_images=frames[1:], duration=step, loop=0)

    @checked
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a file: ``.npz`` holds all fields, for :meth:`load`; ``.png`` is :meth:`plot`.

        Raises:
            OptionError: another suffix.
        """
        path = Path(path)
        if path.suffix == ".npz":
            arrays = {name: getattr(self, name) for name in ARRAYS if getattr(self, name) is not None}
            others = {
                "targets": self.targets, "axes": asdict(self.axes), "options": dict(self.options),
                "snapshot_steps": self.snapshot_steps, "provider": self.provider, "notes": self.notes,
                "image_input": None if self.image_input is None else self.image_input.to_dict(),
            }  # fmt: skip
            write_arrays(path, arrays, maximization=json.dumps(others))
        elif path.suffix == ".png":
            figure = self.plot()
            with writing(path) as draft:
                figure.savefig(draft, dpi=110)
        else:
            raise OptionError(f"path={str(path)!r}: images are saved as .npz (all fields) or .png (the plot)")

    @classmethod
    @checked
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """What :meth:`save` wrote to an ``.npz`` file; options come back as JSON has them.

        Raises:
            FileFormatError: the file is another one, or damaged.
            FileAccessError: the system does not let it be read.
        """
        arrays, others = read_arrays(path, "maximization", "Maximization")
        try:
            image = others.pop("image_input")
            others |= {name: tuple(others[name]) for name in ("targets", "snapshot_steps", "notes")}
            others |= {"axes": decoded(Axes, others["axes"])}
            found = cls.__new__(cls)
            given = None if image is None else ImageInput.from_dict(image)
            checked(cls.__init__)(found, **arrays, **others, image_input=given)
        except (TypeError, ValueError, KeyError, OptionError) as error:
            raise FileFormatError(f"{str(path)!r} holds no Maximization, or is damaged: {error}") from error
        return found

    @checked
    def title(self, index: int) -> str:
        """What an image maximises, and its score."""
        return f"{self.targets[index]} · {self.score[index]:.4g}"

    def __repr__(self) -> str:
        shown = ", ".join(map(self.title, range(min(len(self), 4)))) + (", …" if len(self) > 4 else "")
        return f"<Maximization: {'; '.join([f'{self.images.shape}', shown, self.provider, *self.notes])}>"


def _stretched(x: npt.NDArray[np.float32]) -> Pixels:
    """Pictures (N, H, W, 1 or 3), each with all but its extreme 0.5 % spread over 0 … 255."""
    low, high = np.percentile(x, (0.25, 99.75), axis=(1, 2, 3), keepdims=True)
    spread = np.clip((x - low) / np.where(high > low, high - low, 1), 0, 1)
    pixels = np.rint(255 * spread).astype(np.uint8)
    return np.repeat(pixels, 3, -1) if pixels.shape[-1] == 1 else pixels
