import pytest
import torch
from torch import nn

import onnxviz as ov
import onnxviz_torch
from tests.converters import torch_models as models
from tests.converters.torch_support import (
    IMAGE,
    IN_PLACE,
    TOKENS,
    assert_close,
    assert_equal_to_reference,
    bert,
    gpt,
    normal,
    program,
    resnet,
    vit,
    with_batch,
)


def compiled_in_place():
    model = models.Shared()
    model.compile(backend="eager")
    return model


SHARED = ["features.0", "relu", "features.2.0", "relu#1", "features.2", "features", "relu#2", "head"]
TWO = ["left", "right", "best:value", "best:index"]

# model, example, inputs, outputs, some layers in order (all of them where the list is exact)
CASES = {
    "in-place": (models.InPlace, IMAGE, ["x"], ["output"], IN_PLACE),
    "in-place on the input": (models.InPlaceOnInput, normal(2, 6), ["x"], ["output"], ["relu", "head"]),
    "shared": (models.Shared, IMAGE, ["x"], ["output"], SHARED),
    "compiled": (lambda: torch.compile(models.Shared(), backend="eager"), IMAGE, ["x"], ["output"], SHARED),
    "compiled in place": (compiled_in_place, IMAGE, ["x"], ["output"], SHARED),
    "data parallel": (lambda: nn.DataParallel(models.Shared()), IMAGE, ["x"], ["output"], SHARED),
    "wrapped inside": (
        lambda: nn.Sequential(nn.DataParallel(nn.Linear(6, 4)), torch.compile(nn.Linear(4, 2), backend="eager")),
        normal(2, 6),
        ["input"],
        ["output"],
        ["0", "1"],
    ),
    "dict example": (
        models.TwoInputs,
        {"text": normal(2, 6), "image": normal(2, 4).numpy()},
        ["text", "image"],
        ["output:0", "output:1:best:value", "output:1:best:index"],
        TWO,
    ),
    "two positional inputs": (
        lambda: nn.Bilinear(3, 4, 2),
        (normal(1, 3), normal(1, 4).double().numpy()),
        ["input1", "input2"],
        ["output"],
        [],
    ),
    "starred inputs": (
        models.Starred,
        (normal(2, 6), normal(2, 6, seed=1), normal(2, 6, seed=2)),
        ["first", "rest_0", "rest_1"],
        ["output:0", "output:1"],
        ["head", "head#1"],
    ),
    "train mode": (models.Forgetful, normal(3, 6), ["x"], ["output"], ["norm", "drop", "head"]),
    "recurrent": (models.Recurrent, normal(2, 3, 4), ["x"], ["output"], ["lstm:0", "lstm:1:0", "lstm:1:1", "head"]),
    "constant": (models.Constant, normal(1, 6), ["relu"], ["logits", "copy"], ["skip", "positions", "head"]),
    "double": (lambda: models.InPlaceOnInput().double(), normal(2, 6), ["x"], ["output"], ["relu", "head"]),
    "attention": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        normal(1, 3, 4),
        ["src"],
        ["output"],
        ["self_attn:0", "dropout1", "norm1", "linear1", "dropout", "linear2", "dropout2", "norm2"],
    ),
}

TRANSFORMERS = {
    "resnet": (resnet, normal(1, 3, 32, 32), ["pixel_values"], ["logits"], "resnet.embedder.embedder.convolution"),
    "vit": (vit, {"pixel_values": IMAGE}, ["pixel_values"], ["logits"], "vit.layers.0.attention.q_proj"),
    "bert": (bert, {"input_ids": TOKENS}, ["input_ids"], ["logits"], "bert.encoder.layer.0.attention.self.query"),
    "gpt with cache": (gpt, TOKENS.numpy(), ["input_ids"], ["logits"], "transformer.h.0.mlp.c_fc"),
}


@pytest.mark.parametrize(("make", "example", "inputs", "outputs", "layers"), CASES.values(), ids=CASES)
def test_layers_have_their_names_and_values(make, example, inputs, outputs, layers):
    torch.manual_seed(0)
    source = onnxviz_torch.source(make(), example=example)
    assert [value.name for value in source.model.graph.inputs] == inputs == list(source.example)
    assert list(source.outputs) == outputs
    assert [tap.name for tap in source.taps] == layers
    assert source.notes == []
    assert source.model.opset_imports == {"": 18}
    assert not source.model.functions
    assert not any(node.metadata_props for node in source.model.graph)
    for value in source.model.graph.inputs:
        assert str(value.shape[0]) == "N"
    for feeds in (source.example, with_batch(source.example, 1), with_batch(source.example, 3)):
        assert_equal_to_reference(source, feeds)


@pytest.mark.parametrize(("make", "example", "inputs", "outputs", "layer"), TRANSFORMERS.values(), ids=TRANSFORMERS)
def test_transformers(make, example, inputs, outputs, layer):
    torch.manual_seed(0)
    source = onnxviz_torch.source(make(), example=example)
    assert list(source.example) == inputs
    assert list(source.outputs) == outputs
    assert layer in {tap.name for tap in source.taps}
    assert source.notes == []
    assert source.versions.keys() == {"torch", "onnxscript", "transformers"}
    for feeds in (source.example, with_batch(source.example, 3)):
        assert_equal_to_reference(source, feeds)


def test_taps_know_types_and_parameters():
    source = onnxviz_torch.source(models.InPlace(), example=IMAGE)
    assert [(tap.type, tap.parameters) for tap in source.taps[:4]] == [
        ("Conv2d", 4 * 3 * 9 + 4),
        ("BatchNorm2d", 8),
        ("ReLU", 0),
        ("Conv2d", 4 * 4 * 9 + 4),
    ]


def test_the_reference_is_the_model_itself():
    model = models.Shared().eval()
    reference = onnxviz_torch.source(model, example=IMAGE).reference.run({"x": IMAGE.numpy()})
    with torch.no_grad():
        first = model.features[0](IMAGE)
        assert_close(reference["features.0"], first.numpy(), "features.0", bar=0)
        assert_close(reference["relu"], first.relu().numpy(), "relu", bar=0)
        assert_close(reference["output"], model(IMAGE).numpy(), "output", bar=0)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["relu"], ["relu", "relu#1", "relu#2"]),
        (["relu#1", "head"], ["relu#1", "head"]),
        ("features*", ["features.0", "features.2.0", "features.2", "features"]),
        ([], []),
    ],
)
def test_layers_selects(layers, expected):
    source = onnxviz_torch.source(models.Shared(), example=IMAGE, layers=layers)
    assert [tap.name for tap in source.taps] == expected
    assert len(source.model.graph.outputs) == len(expected) + 1
    assert_equal_to_reference(source, source.example)


def test_a_baked_batch_stays_static_and_is_said():
    source = onnxviz_torch.source(models.Baked(), example=normal(1, 6))
    assert list(source.model.graph.inputs[0].shape) == [1, 6]
    assert "the batch stays fixed at 1" in source.notes[0]
    assert_equal_to_reference(source, source.example)


def test_inputs_of_different_lengths_keep_a_static_batch():
    class Lookup(nn.Module):
        def forward(self, x, table):
            return x @ table

    source = onnxviz_torch.source(Lookup(), example=(normal(2, 3), normal(3, 4)))
    assert "first axes differ" in source.notes[0]
    assert_equal_to_reference(source, source.example)


@pytest.mark.parametrize("exported", [False, True])
def test_computed_weights_are_no_layers(exported, tmp_path):
    torch.manual_seed(0)
    model, x = models.WeightNormed().eval(), normal(2, 3, 9)
    source = onnxviz_torch.source(program(model, x) if exported else model, example=x)
    assert [tap.name for tap in source.taps] == ["conv", "head"]
    assert_equal_to_reference(source, with_batch(source.example, 2))
    ov.convert(model, tmp_path / "net.onnx", example=x, quiet=True)
