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
    *[
        Case(
            f'y = Resize<mode="{mode}", coordinate_transformation_mode="tf_crop_and_resize", {given}>(x, r, , n)',
            IMAGE,
            None,
            {"r": np.array(region, np.float32), "n": sizes},
            note=str(region),
        )
        for mode in ("nearest", "linear", "cubic")
        for region in ([0.1, 0.3, 0.8, 1.0], [-0.2, 0.2, 0.7, 1.3], [0.9, 0.8, 0.1, 0.3])
        for given, sizes in (("axes=[2,3]", [3, 7]), ("axes=[2,3], extrapolation_value=2.5", [1, 2]))
    ],
    Case(
        'y = Resize<mode="linear", coordinate_transformation_mode="tf_crop_and_resize">(x, r, s)',
        IMAGE,
        None,
        {"r": np.array([0, 0, 0.1, 0, 1, 1, 0.7, 1], np.float32), **scales(1, 1, 0.8, 1)},
        note="rows alone",
    ),
    *[
        Case(
            f'y = Resize<nearest_mode="{nearest}", coordinate_transformation_mode="{coordinates}">(x, , s)',
            IMAGE,
            None,
            given,
            note=str(given["s"]),
        )
        for coordinates in ("half_pixel", "align_corners", "asymmetric")
        for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
        for given in (scales(1, 1, 3, 2), scales(1, 1, 0.5, 1.7))
    ],
    *[
        Case(
            f'y = Resize<mode="cubic", {how}, coordinate_transformation_mode="{coordinates}">(x, , s)',
            IMAGE,
            None,
            given,
            note=str(given["s"]),
        )
        for how in ("exclude_outside=1", "cubic_coeff_a=-0.5", "antialias=1", "antialias=1, exclude_outside=1")
        for coordinates in ("half_pixel", "align_corners")
        for given in (scales(1, 1, 2, 1.3), scales(1, 1, 0.6, 0.5))
    ],
    *[
        Case(
            f'y = Resize<mode="{mode}", keep_aspect_ratio_policy="{policy}", axes={axes}>(x, , , n)',
            {"x": (N, 1, 4, 6)},
            None,
            {"n": sizes},
        )
        for mode in ("nearest", "linear")
        for policy, axes, sizes in (
            ("not_larger", [2, 3], [8, 20]),
            ("not_smaller", [3, 2], [3, 8]),
            ("not_larger", [3, 2], [3, 9]),
        )
    ],
]
