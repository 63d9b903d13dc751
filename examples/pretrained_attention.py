"""What a real ImageNet network attends to: `python examples/pretrained_attention.py`.

Usage: python examples/pretrained_attention.py [folder], by default demo/.

A photo with one object: its five most probable classes, then gradient, SmoothGrad, guided backprop and Grad-CAM of the
first, by themselves and over the photo. Two photos side by side: the same of both classes, from one forward pass.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import onnxviz as ov
import zoo
from onnxviz.image import Pixels

ONE, TWO = "chelsea", ("chelsea", "coffee")
CLASSES = {"Egyptian cat": 285, "espresso": 967}
LAYER = "_bn1"
"""EfficientNet-Lite0's last convolution, normalised."""


def file(folder: Path) -> Path:
    """The explainable file, converted if it is not there."""
    import torch

    path = folder / "efficientnet-lite0.onnx"
    if not path.exists():
        model, image_input = zoo.efficientnet_lite0()
        size = image_input.size if isinstance(image_input.size, int) else image_input.size[0]
        example = torch.randn(1, 3, size, size)
        ov.convert(model, path, example=example, input=image_input, classes=zoo.class_names())
    return path


def answers(ex: ov.Explainer, x: np.ndarray, target: object, samples: int) -> dict[str, ov.Explanation]:
    """Four methods on one input; of the gradients, what each pixel's channels have at most."""
    return {
        "gradient": ex.saliency(x, target),
        f"SmoothGrad, {samples} samples": strength(ex.smooth_grad(x, target, n_samples=samples)),
        "guided backprop": strength(ex.guided_backprop(x, target)),
        "Grad-CAM": ex.grad_cam(x, target, layer=LAYER),
    }


def strength(explanation: ov.Explanation) -> ov.Explanation:
    """The largest absolute value over the channels, as saliency has it."""
    channel = explanation.axes.index("channel")
    values = np.abs(explanation.values).max(channel)
    axes = (*explanation.axes[:channel], *explanation.axes[channel + 1 :])
    return ov.Explanation(
        values, axes, explanation.method, explanation.target, explanation.score, class_names=explanation.class_names
    )


def drawn(found: dict[str, ov.Explanation], picture: Pixels, folder: Path, name: str) -> list[Path]:
    """The maps beside the picture, and over it."""
    paths = []
    for mode in ("beside", "blend"):
        figure: Figure = ov.plot.compare(found, picture, mode=mode, stack=len(found["Grad-CAM"].axes) > 3)
        paths.append(folder / f"attention-{name}-{mode}.png")
        figure.savefig(paths[-1], dpi=80)
    return paths


def main(folder: Path, *, samples: int = 100) -> None:
    """Convert, explain, print the classes and write the pictures into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    with ov.load(file(folder)) as ex:
        photo = zoo.photos()[ONE]
        x = ex.read_image(photo)
        for index, name, probability in ex.top(x, 5)[0]:
            print(f"{probability:6.1%}  {name} ({index})")
        shown = ex.image_input.fit(photo)
        paths = drawn(answers(ex, x, None, samples), shown, folder, "one")
        both = zoo.side_by_side(*(zoo.photos()[name] for name in TWO), ex.image_input)
        x = ex.image_input.encode(both)
        paths += drawn(answers(ex, x, [list(CLASSES.values())], samples), both, folder, "two")
    print("\n".join(f"written: {path}" for path in paths))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
