from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F

from tests.gradient.harness import Case, Draw, N

REGIONS = np.array(
    [[0.3, 0.4, 7.6, 5.1], [1.0, 2.0, 2.6, 3.1], [-3.0, 1.5, 4.0, 20.0], [5.0, 5.0, 5.2, 4.0]], np.float32
)


def aligned(x: torch.Tensor, regions: torch.Tensor, samples: int, half_pixel: bool) -> torch.Tensor:
    """RoiAlign to 2 × 3 bins: the means of s × s samples in each, zero where these lie beyond a pixel off the image."""
    pooled = []
    for i, (x1, y1, x2, y2) in enumerate((regions - 0.5 * half_pixel).tolist()):
        width, height = (stop - start if half_pixel else max(stop - start, 1.0) for start, stop in ((x1, x2), (y1, y2)))
        across = x1 + width * (torch.arange(3 * samples, dtype=x.dtype) + 0.5) / (3 * samples)
        down = y1 + height * (torch.arange(2 * samples, dtype=x.dtype) + 0.5) / (2 * samples)
        grid = torch.stack(torch.meshgrid((2 * across + 1) / 7 - 1, (2 * down + 1) / 6 - 1, indexing="xy"), -1)
        inside = ((down >= -1) & (down <= 6))[:, None] & ((across >= -1) & (across <= 7))
        image = x[i % len(x)][None]
        taken = F.grid_sample(image, grid[None], "bilinear", "border", align_corners=False) * inside
        pooled.append(F.avg_pool2d(taken, samples)[0])
    return torch.stack(pooled)


def places(align: int) -> Draw:
    """An image, or a grid that reaches over its edges and keeps away from where pixels meet."""

    def draw(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
        if shape[-1] > 3:
            return rng.standard_normal(shape).astype(np.float32)
        pixel = rng.integers(-9, 15, shape) + rng.uniform(0.1, 0.4, shape)
        sizes = np.array([7, 5, 4][: shape[-1]])
        return (2 * pixel / (sizes - 1) - 1 if align else (2 * pixel + 1) / sizes - 1).astype(np.float32)

    return draw


CASES = [
    *[
        Case(
            f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={align}>(x, grid)',
            {"x": (N, 3, 5, 7), "grid": (N, 4, 3, 2)},
            lambda x, grid, mode=mode, padding=padding, align=align: F.grid_sample(x, grid, mode, padding, bool(align)),
            draw=places(align),
        )
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ],
    Case(
        'y = GridSample<padding_mode="reflection", align_corners=1>(x, grid)',
        {"x": (N, 2, 1, 3), "grid": (N, 2, 4, 2)},
        lambda x, grid: F.grid_sample(x, grid, "bilinear", "reflection", True),
        draw=places(0),
        note="one row",
    ),
    *[
        Case(
            f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={align}>(x, grid)',
            {"x": (N, 2, 4, 5, 7), "grid": (N, 3, 2, 4, 3)},
            lambda x, grid, mode=mode, padding=padding, align=align: F.grid_sample(x, grid, mode, padding, bool(align)),
            draw=places(align),
        )
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for align in (0, 1)
    ],
    Case(
        "y = GridSample(x, grid)",
        {"x": (N, 2, 4, 3), "grid": (N, 2, 2, 2)},
        lambda x, g: F.grid_sample(x, g, align_corners=False),
        draw=places(0),
    ),
    *[
        Case(
            f"n = Shape<start=0, end=1>(x)  batch = Mod(numbers, n)  "
            f'y = RoiAlign<coordinate_transformation_mode="{mode}", output_height=2, output_width=3, '
            f"sampling_ratio={s}, spatial_scale={scale}>(x, rois, batch)",
            {"x": (N, 2, 6, 7)},
            lambda x, rois, _, mode=mode, s=s, scale=scale: aligned(x, rois * scale, s, mode == "half_pixel"),
            {"rois": REGIONS, "numbers": range(len(REGIONS))},
        )
        for mode in ("half_pixel", "output_half_pixel")
        for s in (1, 2, 3)
        for scale in (1.0, 0.5)
    ],
]
