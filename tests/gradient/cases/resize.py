import numpy as np
from torch.nn import functional as F

from tests.gradient.harness import Case, N

IMAGE = {"x": (N, 2, 4, 5)}


def scales(*values: float) -> dict[str, np.ndarray]:
    return {"s": np.array(values, np.float32)}


MODES = [
    (mode, coordinates)
    for mode in ("nearest", "linear", "cubic")
    for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
]

CASES = [
    *[
        Case(
            f'y = Resize<mode="{mode}", coordinate_transformation_mode="{coordinates}">(x, , s)',
            IMAGE,
            None,
            given,
            note=str(given["s"]),
        )
        for mode, coordinates in MODES
        for given in (scales(1, 1, 2, 3), scales(1, 1, 1.6, 0.7))
    ],
    Case(
        'y = Resize<mode="linear", axes=[2,3]>(x, , , sizes)',
        IMAGE,
        lambda x, _: F.interpolate(x, (7, 3), mode="bilinear"),
        {"sizes": [7, 3]},
    ),
    Case(
        'y = Resize<mode="nearest", axes=[-2,-1]>(x, , , sizes)',
        IMAGE,
        lambda x, _: F.interpolate(x, (8, 10)),
        {"sizes": [8, 10]},
    ),
    Case(
        'y = Resize<mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric">(x, , s)',
        IMAGE,
        lambda x, _: F.interpolate(x, scale_factor=2),
        scales(1, 1, 2, 2),
    ),
    Case(
        'y = Resize<mode="nearest", nearest_mode="ceil", coordinate_transformation_mode="asymmetric">(x, , s)',
        IMAGE,
        None,
        scales(1, 1, 2, 2),
    ),
    Case(
        'y = Resize<mode="linear">(x, , s)',
        {"x": (N, 2, 5)},
        lambda x, _: F.interpolate(x, scale_factor=2, mode="linear"),
        scales(1, 1, 2),
    ),
    Case(
        'y = Resize<mode="linear">(x, , s)',
        {"x": (N, 1, 3, 4, 2)},
        lambda x, _: F.interpolate(x, scale_factor=2, mode="trilinear"),
        scales(1, 1, 2, 2, 2),
    ),
    Case('y = Resize<mode="linear", antialias=1>(x, , s)', IMAGE, None, scales(1, 1, 0.5, 0.6)),
]
