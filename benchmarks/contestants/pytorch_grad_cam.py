"""pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor

from benchmarks.contestants.base import Absent
from benchmarks.contestants.pytorch import InTorch, tokens_as_maps
from benchmarks.subject import Question


class PytorchGradCam(InTorch):
    """Its GradCAM; maps are scaled to 0 … 1."""

    name = "pytorch-grad-cam"

    def computation(self, question: Question, classes: Tensor) -> Callable[[Tensor], Tensor]:
        """GradCAM, which needs weights that require a gradient."""
        if question.method != "grad_cam":
            raise Absent("it is compared by its GradCAM")
        grid = self.subject.network.grid
        reshape = partial(tokens_as_maps, grid=grid) if grid else None
        targets = [ClassifierOutputTarget(index) for index in classes.tolist()]

        def compute(x: Tensor) -> Tensor:
            self.model.requires_grad_()
            with GradCAM(self.model, [self.module()], reshape_transform=reshape) as cam:
                maps = cam(x, targets)
            self.model.requires_grad_(requires_grad=False).zero_grad()
            return torch.from_numpy(maps)

        return compute
