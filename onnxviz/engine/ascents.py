"""Inputs that units of the network want to see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnxviz.algorithms.dream import deep_dream
from onnxviz.algorithms.maximize import Regularizer, maximize
from onnxviz.algorithms.parameterization import Name
from onnxviz.algorithms.rules import Optimizer
from onnxviz.algorithms.subject import Clip
from onnxviz.engine.opened import Opened
from onnxviz.engine.targets import Of
from onnxviz.maximization import Maximization


class Ascents(Opened):
    """The methods of :class:`~onnxviz.Explainer` that change an input by gradient ascent."""

    def maximize(
        self,
        target: Any,
        *,
        steps: int = 200,
        regularizers: Sequence[Regularizer] = (),
        jitter: int = 8,
        scale: tuple[float, float] = (1.0, 1.0),
        rotation: float = 0.0,
        parameterization: Name = "auto",
        optimizer: Optimizer = "normalized",
        learning_rate: float | None = None,
        start: Any = None,
        size: Sequence[int] | None = None,
        inputs: Mapping[str, Any] | None = None,
        clip: Clip = True,
        snapshots: int = 0,
        seed: int = 0,
        of: Of = "logits",
        output: str | None = None,
    ) -> Maximization:
        """The input that a unit of the network wants to see, by gradient ascent (activation maximisation).

        Erhan 2009; Simonyan 2013 (arXiv:1312.6034); Yosinski 2015 (arXiv:1506.06579); Olah 2017
        (doi:10.23915/distill.00007). Where the file describes its pictures (:class:`onnxviz.ImageInput`) the ascent
        runs on grey levels, so that step sizes and weights mean the same for every network; else in the model's units.

        Args:
            target: a class (index or name, before the softmax); ``"layer:channel"``, a filter, the mean over its
                places; ``"layer:channel@y,x"``, a neuron (``@t`` of a series, ``@z,y,x`` of a volume; negative
                coordinates count from the end); a pair ``("layer", direction)`` or ``("layer@y,x", direction)`` with
                one number per channel; a float array that weighs the logits. A list of these gives an image for each,
                computed together, and each the same as if it were asked alone.
            steps: how many.
            regularizers: :class:`onnxviz.TotalVariation`, :class:`onnxviz.LpNorm`, :class:`onnxviz.L2`,
                :class:`onnxviz.Blur`, or objects with the functions of :mod:`onnxviz.algorithms.regularizers`; those
                that are written in numpy bring the images to the host.
            jitter: at each step the image is shifted by up to so many pixels along each spatial axis, around the edges:
                without it, high frequencies win.
            scale: (smallest, largest) factor that it is resized by at each step.
            rotation: up to so many degrees that it is turned by at each step.
            parameterization: ``"pixels"``, or ``"fourier"``: the spectrum, in colours that vary independently, which
                favours no frequency and no colour; clip is then a soft bound. ``"auto"`` is ``"fourier"`` where the
                file describes its pictures.
            optimizer: ``"normalized"`` divides the gradient by its root mean square over the image, so that a step
                changes it by ``learning_rate`` on average however flat the score is; ``"plain"``, ``"rmsprop"``,
                ``"adam"``.
            learning_rate: None is one grey level of pixels, half a level of their spectrum; a level is 0.01 where the
                file does not describe its pictures.
            start: an image (1, …) or one for each target (N, …), as the model takes it; several with one target give an
                image for each. None is noise of ten levels (standard deviation) around mid-grey, 128 of 255, or N(0,
                0.1²) where the file does not describe its pictures; the same for each target.
            size: the spatial size, where the file leaves it open; None is the example's.
            inputs: name → value (1, …) of the model's other inputs, which are held fixed.
            clip: True holds the image within 0 … 255 where the file describes its pictures; (low, high), in grey levels
                or the model's units, holds it there; False nowhere.
            snapshots: how many images on the way are kept, evenly from the start to the end, for
                :meth:`onnxviz.Maximization.gif`.
            seed: of noise and transformations.
            of: ``"probability"`` ascends the probability of a class: often by pushing the others down, which shows
                less of the class itself.
            output: of classes, where the model has several outputs.

        Raises:
            NotFiniteError: a gradient became infinite; the message names the step and the regulariser.
            TargetError, LayerError, InputError, OptionError: a wrong argument.
        """
        return maximize(
            self._engine, target, steps=steps, regularizers=regularizers, jitter=jitter, scale=scale, rotation=rotation,
            parameterization=parameterization, optimizer=optimizer, learning_rate=learning_rate, start=start, size=size,
            inputs=inputs, clip=clip, snapshots=snapshots, seed=seed, of=of, output=output,
        )  # fmt: skip

    def deep_dream(
        self,
        image: Any,
        layer: str | int,
        *,
        octaves: int = 4,
        octave_scale: float = 1.4,
        steps: int = 20,
        learning_rate: float | None = None,
        jitter: int = 32,
        regularizers: Sequence[Regularizer] = (),
        snapshots: int = 0,
        seed: int = 0,
    ) -> Maximization:
        """A picture in which what a layer sees is strengthened (Mordvintsev 2015, "Inceptionism").

        The L2 norm of the layer's activations is ascended, first on a small copy of the picture, then on larger ones;
        what was dreamt is carried over, and each copy brings back its own detail. A file with open sizes
        (``convert(…, open_sizes=True)``) sees each copy as a whole; any other sees it in tiles of its size, whose seams
        the jitter moves about.

        Args:
            image: a picture of any size: a path, uint8 pixels (H, W, 3), or an array (1, …) as the model takes it.
            layer: whose activations; early ones give strokes and textures, late ones parts of animals and things.
            octaves: how many sizes.
            octave_scale: between one size and the next.
            steps: at each size.
            learning_rate: root mean square of a step; None is 2 grey levels.
            jitter: as in :meth:`maximize`.
            regularizers: likewise.
            snapshots: likewise, at the picture's size.
            seed: of the jitter.

        Raises:
            LayerError, InputError, OptionError: a wrong argument.
        """
        return deep_dream(
            self._engine, image, layer, octaves=octaves, octave_scale=octave_scale, steps=steps,
            learning_rate=learning_rate, jitter=jitter, regularizers=regularizers, snapshots=snapshots, seed=seed,
        )  # fmt: skip
