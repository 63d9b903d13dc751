"""Random weights as far from their initial values as training leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


def unsettled(model: Module) -> Module:
    """The module in evaluation mode, with noise on what its initialisation has made constant or next to nothing.

    A scale of 1e-6 in front of a branch, or statistics of 0 and 1, would hide whatever is wrong behind them; kernels
    of a deviation of 0.02 let the gradient vanish on its way to the input.
    """
    import torch
    from torch import nn

    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for name, b in model.named_buffers() if "running_" in name)):
            if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
                noise = 0.1 * torch.randn_like(tensor)
                tensor.add_(noise.abs() if bool((tensor > 0).all()) else noise)
            elif tensor.is_floating_point() and tensor.ndim > 1:
                gain = float(tensor.std()) * tensor[0].numel() ** 0.5
                tensor.mul_(1 / min(gain, 1.0))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(1 + 0.1 * torch.randn_like(module.weight).abs())
    return model.eval()
