import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz_torch
from onnxviz.errors import InputError, UnsupportedModelError
from tests.converters import torch_models as models
from tests.converters.torch_support import normal

ROOT = Path(__file__).parents[2]
PATH = os.pathsep.join([str(ROOT), str(ROOT / "converters")])


def state(model):
    """What a user can see of a model."""
    tensors = {name: (id(value), value.clone(), value.requires_grad) for name, value in model.state_dict().items()}
    flags = {name: module.training for name, module in model.named_modules()}
    hooks = {name: len(module._forward_hooks) for name, module in model.named_modules()}
    identity = {name: id(module) for name, module in model.named_modules()}
    return tensors, (flags, hooks, identity, sorted(vars(model)), list(model.seen))


def assert_unchanged(before, after):
    assert before[1] == after[1]
    for (_, old, old_flag), (_, new, new_flag) in zip(before[0].values(), after[0].values(), strict=True):
        assert torch.equal(old, new)
        assert old_flag == new_flag


def test_the_model_is_unchanged():
    model = models.Forgetful().train()
    model.norm.eval()
    model.head.weight.requires_grad_(requires_grad=False)
    before = state(model)
    source = onnxviz_torch.source(model, example=normal(3, 6))
    assert_unchanged(before, state(model))
    source.reference.run(source.example)
    source.reference.gradient(source.example, {"output": np.ones((3, 2), np.float32)}, ["x", "norm"])
    assert_unchanged(before, state(model))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("make", "example", "error"),
    [(models.Failing, normal(3, 6), UnsupportedModelError), (models.Forgetful, normal(3, 5), InputError)],
)
def test_the_model_is_unchanged_after_an_error(make, example, error):
    model = make().train()
    before = state(model)
    with pytest.raises(error):
        onnxviz_torch.source(model, example=example)
    assert_unchanged(before, state(model))


def test_the_users_hooks_stay_and_the_example_is_not_overwritten():
    model = models.InPlaceOnInput()
    seen = []
    handle = model.head.register_forward_hook(lambda *_: seen.append(1))
    x = -torch.ones(2, 6)
    onnxviz_torch.source(model, example=x)
    assert torch.equal(x, -torch.ones(2, 6))
    seen.clear()
    model(x)
    assert seen == [1]
    handle.remove()
    assert not model.head._forward_hooks


def test_wrappers_are_put_back():
    model = nn.Sequential(nn.DataParallel(nn.Linear(6, 4)))
    onnxviz_torch.source(model, example=normal(2, 6))
    assert isinstance(model[0], nn.DataParallel)


def test_nothing_is_printed():
    code = """
import torch, onnxviz_torch
from onnxviz.errors import UnsupportedModelError
from tests.converters import torch_models as models
onnxviz_torch.source(models.Shared().train(), example=torch.randn(1, 3, 8, 8))
onnxviz_torch.source(models.Baked(), example=torch.randn(1, 6))
try:
    onnxviz_torch.source(models.Failing(), example=torch.randn(1, 6))
except UnsupportedModelError:
    pass
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": PATH}
    )
    assert (run.stdout, run.stderr) == ("", "")


def test_logging_is_as_before():
    level = logging.getLogger("torch.onnx").level
    onnxviz_torch.source(nn.Linear(6, 2), example=normal(1, 6))
    assert logging.getLogger("torch.onnx").level == level
