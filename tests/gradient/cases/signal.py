import numpy as np
import torch

from tests.gradient.harness import Case, N, weights

REAL, COMPLEX = {"x": (N, 6, 1)}, {"x": (N, 3, 5, 2)}


def transform(x: torch.Tensor, n: int | None, axis: int, inverse: int, onesided: int) -> torch.Tensor:
    z = (
        torch.view_as_complex(x.contiguous())
        if x.shape[-1] == 2
        else torch.complex(x[..., 0], torch.zeros_like(x[..., 0]))
    )
    y = (torch.fft.ifft if inverse else torch.fft.fft)(z, n, axis)
    return torch.view_as_real(y.narrow(axis, 0, y.shape[axis] // 2 + 1) if onesided else y)


def short_time(x: torch.Tensor, hop: int, n: int, window: torch.Tensor | None, onesided: int) -> torch.Tensor:
    frames = x.squeeze(-1).unfold(1, n, hop) * (1 if window is None else window)
    return torch.view_as_real((torch.fft.rfft if onesided else torch.fft.fft)(frames))


CASES = [
    *[
        Case(
            f"y = DFT<axis={axis}, inverse={inverse}, onesided={onesided}>(x{', n' * (n is not None)})",
            shape,
            lambda x, *_, n=n, at=axis, i=inverse, o=onesided: transform(x, n, at % x.ndim, i, o),
            {} if n is None else {"n": np.array(n)},
        )
        for shape in (REAL, COMPLEX)
        for axis in ((1,) if shape is REAL else (1, 2, -2))
        for inverse, onesided in ((0, 0), (1, 0), *([(0, 1)] if shape is REAL else []))
        for n in (None, 4, 9, 2)
    ],
    *[
        Case(
            f"y = DFT<axis={axis}, inverse=1, onesided=1>(x{', n' * (n is not None)})",
            COMPLEX,
            lambda x, *_, n=n, at=axis: torch.fft.irfft(torch.view_as_complex(x), n, at)[..., None],
            {} if n is None else {"n": np.array(n)},
        )
        for axis, lengths in ((1, (None, 4, 5)), (2, (None, 8, 9)))
        for n in lengths
    ],
    *[
        Case(
            f"y = STFT<onesided={onesided}>(x, hop{', w' if windowed else ', '}{'' if windowed else ', n'})",
            {"x": shape},
            lambda x, hop, other, o=onesided, w=windowed: short_time(
                x, int(hop), len(other) if w else int(other), other if w else None, o
            ),
            {"hop": np.array(hop), **({"w": weights(6)} if windowed else {"n": np.array(5)})},
        )
        for shape in ((N, 17), (N, 17, 1))
        for onesided in (0, 1)
        for hop, windowed in ((3, True), (4, False), (7, True))
    ],
]
