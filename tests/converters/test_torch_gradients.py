import numpy as np
import pytest
import torch
from torch.nn import functional

import onnxviz_torch
from onnxviz.errors import LayerError
from tests.converters import torch_models as models
from tests.converters.torch_support import IMAGE, IN_PLACE, TOKENS, assert_close, bert, normal, program


def grad(of, cotangent, wrt):
    return torch.autograd.grad((of * torch.from_numpy(cotangent)).sum(), wrt)[0].numpy()


def frozen(model):
    return model.eval().requires_grad_(requires_grad=False)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradients_through_in_place_activations(mode):
    torch.manual_seed(0)
    model = frozen(models.InPlace())
    seed = normal(3, 5, seed=1).numpy()
    x = normal(3, 3, 8, 8).requires_grad_()
    relu = model.norm(model.first(x)).relu()
    relu.retain_grad()
    second = model.second(relu)
    act = functional.leaky_relu(second, 0.1)
    skip = act + relu
    again = model.second(skip)
    output = model.head((again.relu() + skip).mean((2, 3)))
    expected = {
        name: torch.autograd.grad((output * torch.from_numpy(seed)).sum(), value, retain_graph=True)[0].numpy()
        for name, value in {"x": x, "relu": relu, "second": second, "act": act, "second#1": again}.items()
    }
    with mode():
        reference = onnxviz_torch.source(model, example=IMAGE).reference
        got = reference.gradient({"x": x.detach().numpy()}, {"output": seed}, list(expected))
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert_close(got[name], value, name, bar=1e-6)


def test_gradients_of_layers():
    torch.manual_seed(0)
    model = models.Shared().eval()
    reference = onnxviz_torch.source(model, example=IMAGE).reference
    x = IMAGE.clone().requires_grad_()
    first = model.features[0](x)
    seed = normal(1, 4, 8, 8, seed=2).numpy()
    features = model.features[2](first.relu())
    got = reference.gradient({"x": IMAGE.numpy()}, {"features": seed, "relu": seed}, ["features.0", "x", "head"])
    sum_ = features + first.relu()
    expected = torch.autograd.grad((sum_ * torch.from_numpy(seed)).sum(), (first, x))
    assert_close(got["features.0"], expected[0].numpy(), "features.0", bar=1e-6)
    assert_close(got["x"], expected[1].numpy(), "x", bar=1e-6)
    np.testing.assert_array_equal(got["head"], np.zeros((1, 5), np.float32))
    assert all(parameter.grad is None for parameter in model.parameters())


def test_several_requests_share_one_forward_pass():
    torch.manual_seed(0)
    model = frozen(models.InPlace())
    reference = onnxviz_torch.source(model, example=IMAGE).reference
    feeds = {"x": IMAGE.numpy()}
    seeds = [normal(1, 5, seed=seed).numpy() for seed in (1, 2)]
    requests = [({"output": seeds[0]}, ["x"]), ({"output": seeds[1]}, ["relu", "x"]), ({"head": seeds[0]}, ["x"])]
    calls = []
    handle = model.first.register_forward_hook(lambda *_: calls.append(1))
    answers = list(reference.gradients(feeds, requests))
    handle.remove()
    assert calls == [1]
    assert [list(answer) for answer in answers] == [["x"], ["relu", "x"], ["x"]]
    for seed, answer in zip([*seeds, seeds[0]], answers, strict=True):
        x = IMAGE.clone().requires_grad_()
        assert_close(answer["x"], grad(model(x.clone()), seed, x), "x", bar=1e-6)


def test_gradients_of_an_input_that_is_overwritten():
    model = frozen(models.InPlaceOnInput())
    x = normal(2, 6).numpy()
    reference = onnxviz_torch.source(model, example=x).reference
    seed = normal(2, 2, seed=1).numpy()
    expected = seed @ model.head.weight.numpy()
    got = reference.gradient({"x": x}, {"output": seed}, ["x", "relu"])
    assert_close(got["x"], expected * (x > 0), "x", bar=1e-6)
    assert_close(got["relu"], expected, "relu", bar=1e-6)
    np.testing.assert_array_equal(x, normal(2, 6).numpy())


def test_gradients_of_two_inputs_and_integers():
    model = models.TwoInputs()
    feeds = {"image": normal(2, 4).numpy(), "text": normal(2, 6).numpy()}
    reference = onnxviz_torch.source(model, example=feeds).reference
    seed = np.ones((2, 3), np.float32)
    got = reference.gradient(feeds, {"left": seed}, ["image", "text"])
    assert_close(got["image"], seed @ model.left.weight.detach().numpy(), "image", bar=1e-6)
    np.testing.assert_array_equal(got["text"], np.zeros((2, 6), np.float32))
    with pytest.raises(LayerError, match="'best:index' is not a float"):
        reference.gradient(feeds, {"left": seed}, ["best:index"])
    with pytest.raises(LayerError, match="'lift' is unknown"):
        reference.gradient(feeds, {"lift": seed}, ["image"])


def test_gradients_with_respect_to_layers_of_an_integer_model():
    torch.manual_seed(0)
    model = frozen(bert())
    source = onnxviz_torch.source(model, example={"input_ids": TOKENS})
    seed = normal(1, 3, seed=1).numpy()
    words = model.bert.embeddings.word_embeddings(TOKENS).requires_grad_()
    expected = grad(model(inputs_embeds=words).logits, seed, words)
    name = "bert.embeddings.word_embeddings"
    got = source.reference.gradient(source.example, {"logits": seed}, [name])
    assert_close(got[name], expected, name, bar=1e-5)


def test_gradients_of_a_program():
    torch.manual_seed(0)
    model = frozen(models.InPlace())
    source = onnxviz_torch.source(program(model, IMAGE))
    assert [tap.name for tap in source.taps] == IN_PLACE
    seed = normal(1, 5, seed=1).numpy()
    x = IMAGE.clone().requires_grad_()
    expected = grad(model(x.clone()), seed, x)
    got = source.reference.gradient({"x": IMAGE.numpy()}, {"output": seed}, ["x"])
    assert_close(got["x"], expected, "x", bar=1e-6)
