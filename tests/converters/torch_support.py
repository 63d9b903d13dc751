"""Inputs, small transformers and comparisons for the tests of the PyTorch converter."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch
import transformers


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


IMAGE = normal(1, 3, 8, 8)
TOKENS = torch.arange(1, 7)[None]


def run_onnx(source, feeds):
    """All outputs and layers as stock ONNX Runtime computes them."""
    session = onnxruntime.InferenceSession(
        ir.to_proto(source.model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    values = {tap.name: tap.value for tap in source.taps} | source.outputs
    return dict(zip(values, session.run(list(values.values()), feeds), strict=True))


def assert_close(got, expected, name, bar=1e-5):
    assert got.shape == expected.shape, name
    assert got.dtype == expected.dtype, name
    assert np.abs(got.astype(float) - expected).max() <= bar * max(np.abs(expected).max(), 1e-12), name


def assert_equal_to_reference(source, feeds):
    expected = source.reference.run(feeds)
    for name, value in run_onnx(source, feeds).items():
        assert_close(value, expected[name], name)


def with_batch(example, size):
    """Other numbers of the same kind with another batch size."""
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal((size, *array.shape[1:])).astype(array.dtype)
        if array.dtype.kind == "f"
        else np.resize(array, (size, *array.shape[1:]))
        for name, array in example.items()
    }


IN_PLACE = ["first", "norm", "relu", "second", "act", "second#1", "head"]


def resnet():
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config)


def tiny(config, **more):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    return config(**sizes, num_labels=3, **more)


def vit():
    return transformers.ViTForImageClassification(tiny(transformers.ViTConfig, image_size=8, patch_size=4))


def bert():
    return transformers.BertForSequenceClassification(tiny(transformers.BertConfig, vocab_size=20))


def gpt():
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20, n_positions=8, use_cache=True)
    return transformers.GPT2LMHeadModel(config)


def program(model, *example, dynamic=False):
    batch = {0: torch.export.Dim("batch")} if dynamic else None
    return torch.export.export(model.eval(), example, dynamic_shapes=[batch for _ in example])
