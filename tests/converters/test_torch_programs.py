import warnings

import numpy as np
import pytest
import torch
from torch import nn

import onnxviz_torch
from onnxviz.errors import InputError, UnsupportedOperatorError
from tests.converters import torch_models as models
from tests.converters.torch_support import assert_equal_to_reference, normal, program, with_batch

PROGRAM = ["features.0", "features.1", "features.2.0", "features.2.1", "features.2", "features", "relu", "head"]

# Programs (they forget that two names were one module)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_programs_keep_their_batch(tmp_path, dynamic, stored):
    model = program(models.Shared(), normal(2, 3, 8, 8), dynamic=dynamic)
    if stored:
        torch.export.save(model, tmp_path / "model.pt2")
        model = tmp_path / "model.pt2"
    source = onnxviz_torch.source(model)
    assert str(source.model.graph.inputs[0].shape[0]) == ("N" if dynamic else "2")
    assert source.notes == []
    types = {tap.name: tap.type for tap in source.taps}
    assert list(types) == PROGRAM
    assert types["features.2.1"] == types["relu"] == "ReLU"
    np.testing.assert_array_equal(source.example["x"], normal(2, 3, 8, 8).numpy())
    assert_equal_to_reference(source, source.example)
    if dynamic:
        assert_equal_to_reference(source, with_batch(source.example, 1))
        assert_equal_to_reference(source, with_batch(source.example, 5))


def test_a_program_without_example_gets_a_seeded_one():
    model = program(models.Shared(), normal(2, 3, 8, 8), dynamic=True)
    model.example_inputs = None
    source = onnxviz_torch.source(model)
    assert source.example["x"].shape[1:] == (3, 8, 8)
    assert source.example["x"].std() == pytest.approx(1, abs=0.2)
    assert_equal_to_reference(source, source.example)


def test_a_program_takes_keywords_and_ignores_constants():
    model = torch.export.export(models.TwoInputs().eval(), (normal(2, 4),), {"text": normal(2, 6)})
    source = onnxviz_torch.source(model, example={"text": normal(2, 6, seed=3), "image": normal(2, 4)})
    assert list(source.example) == ["image", "text"]
    assert_equal_to_reference(source, source.example)


def test_a_program_of_integers_without_example_is_refused():
    model = program(nn.Embedding(5, 2), torch.zeros(1, 3, dtype=torch.int64))
    model.example_inputs = None
    with pytest.raises(InputError, match="integer inputs"):
        onnxviz_torch.source(model)


class Own(nn.Module):
    """What a network calls without a layer for it."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.function(self, x)


def standardised(own, x):
    """Weight standardisation by a batch norm of the weights."""
    weight = own.conv.weight.reshape(1, 4, -1)
    weight = nn.functional.batch_norm(weight, None, None, training=True).reshape(own.conv.weight.shape)
    return nn.functional.conv2d(x, weight)


def by_instance(_own, x):
    """Each sample's channels as the channels of one sample."""
    flat = x.reshape(1, -1, *x.shape[2:])
    return nn.functional.batch_norm(flat, None, None, training=True).reshape(x.shape)


def trained(*layers):
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers).train()


def in_training(*layers):
    """A program that was exported without eval()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(trained(*layers), (normal(2, 3, 8, 8),))


BATCH_NORM = "takes its mean and variance from the batch at hand"
IN_TRAINING = {
    "batch norm": (in_training(nn.BatchNorm2d(4)), f"batch norm '1' {BATCH_NORM}"),
    "dropout": (in_training(nn.Dropout(0.1)), "dropout '1' is on"),
    "no statistics": (trained(nn.BatchNorm2d(4, track_running_stats=False)).eval(), f"batch norm '1' {BATCH_NORM}"),
    "own batch norm": (Own(lambda _, x: nn.functional.batch_norm(x, None, None, training=True)), BATCH_NORM),
    "own dropout": (Own(lambda _, x: nn.functional.dropout(x)), "which the network itself calls, is on"),
}


@pytest.mark.parametrize(("model", "message"), IN_TRAINING.values(), ids=IN_TRAINING)
def test_what_looks_at_the_batch_or_rolls_dice_is_refused(model, message):
    with pytest.raises(UnsupportedOperatorError, match=message):
        onnxviz_torch.source(model, example=normal(2, 3, 8, 8))


@pytest.mark.parametrize("model", [
    trained(nn.BatchNorm2d(4), nn.Dropout()),  # a module is converted as it is in eval mode
    Own(standardised),
    program(Own(by_instance).eval(), normal(1, 3, 8, 8)),
])  # fmt: skip
def test_what_looks_at_no_other_sample_is_taken(model):
    size = 1 if isinstance(model, torch.export.ExportedProgram) else 2
    source = onnxviz_torch.source(model, example=normal(size, 3, 8, 8))
    assert_equal_to_reference(source, source.example)
