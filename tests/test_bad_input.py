"""Wrong questions: each its own class of error, and a message with what was asked, what is expected and the way out."""

from __future__ import annotations

import numpy as np
import pytest

import onnxviz as ov
from onnxviz.errors import InputError, LayerError, OnnxvizError, OptionError, ProviderError, TargetError
from tests.support import normal

X, IDS = normal(2, 3, 12, 12), np.zeros((2, 7), np.int64)


def with_one(value: float) -> np.ndarray:
    x = X.copy()
    x[1, 2, 3, 4] = value
    return x


# ----- x -----

INPUTS = {
    "no batch axis": ("cnn", X[0], ["'image'", "3 axes", "[3, 12, 12]", "['N', 3, 12, 12]", "x[None]"]),
    "two axes too few": ("cnn", X[0, 0], ["'image'", "2 axes"]),
    "one axis too many": ("cnn", X[None], ["'image'", "5 axes", "[1, 2, 3, 12, 12]"]),
    "a number": ("cnn", 3.0, ["'image'", "0 axes"]),
    "another size": ("cnn", normal(2, 3, 12, 13), ["[2, 3, 12, 13]", "['N', 3, 12, 12]"]),
    "other channels": ("cnn", normal(2, 1, 12, 12), ["[2, 1, 12, 12]", "['N', 3, 12, 12]"]),
    "channels last": ("cnn", X.transpose(0, 2, 3, 1), ["[2, 12, 12, 3]", "first", "x.transpose(0, 3, 1, 2)"]),
    "pixels": ("cnn", (X * 50).astype(np.uint8), ["uint8", "float32", "ex.read_image", "astype('float32')"]),
    "integers": ("cnn", X.astype(np.int64), ["int64", "float32"]),
    "complex": ("cnn", X.astype(np.complex64), ["complex64", "float32"]),
    "text": ("cnn", np.full((2, 3, 12, 12), "a"), ["'image'", "<U1", "float32"]),
    "objects": ("cnn", [[object()]], ["'image'"]),
    "ragged": ("cnn", [[1.0], [1.0, 2.0]], ["list", "cannot be read as an array"]),
    "None": ("cnn", None, ["'image'"]),
    "NaN": ("cnn", with_one(np.nan), ["'image'", "NaN or infinity", "1 of 864"]),
    "infinity": ("cnn", with_one(-np.inf), ["NaN or infinity", "1 of 864"]),
    "beyond float32": ("cnn", with_one(0).astype(np.float64) + 1e300, ["'image'", "infinity"]),
    "empty": ("cnn", X[:0], ["'image'", "empty", "[0, 3, 12, 12]"]),
    "an unknown name": ("cnn", {"img": X}, ["'img'", "inputs: image", "did you mean 'image'?"]),
    "no name": ("cnn", {}, ["'image' is missing"]),
    "too many": ("cnn", (X, X), ["2 inputs", "takes 1", "image"]),
    "floats for integers": ("tokens", IDS.astype(np.float32), ["'ids'", "float32", "int64"]),
    "truths for integers": ("tokens", IDS.astype(bool), ["'ids'", "bool", "int64"]),
    "a longer sequence": ("tokens", np.zeros((2, 9), np.int64), ["[2, 9]", "['N', 7]"]),
    "one of two": ("two heads", normal(2, 6), ["2 inputs", "first, second", "dict"]),
    "one of two by name": ("two heads", {"first": normal(2, 6)}, ["'second' is missing", "first, second"]),
    "three of two": ("two heads", (normal(2, 6),) * 3, ["3 inputs", "takes 2"]),
    "exchanged": ("two heads", (normal(2, 3), normal(2, 6)), ["'first'", "[2, 3]", "['N', 6]"]),
    "another number of samples": (
        "two heads",
        (normal(2, 6), normal(3, 3)),
        ["differ in their number of samples", "'first': 2", "'second': 3"],
    ),
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs(subjects, case):
    name, x, words = INPUTS[case]
    ex = subjects(name).explainer
    questions = [ex.predict, ex.top, ex.features]
    questions += [ex.gradient, ex.saliency] if ex.inputs[0].has_gradient else []
    for question in questions:
        with pytest.raises(InputError) as refusal:
            question(x)
        assert all(word in str(refusal.value) for word in words), refusal.value


def test_tokens_that_the_embedding_does_not_have(subjects):
    with pytest.raises(OnnxvizError, match="20"):
        subjects("tokens").explainer.predict(IDS + 20)


# ----- target -----

TARGETS = {
    "too large": ("cnn", 5, ["target 5", "out of range", "'output'", "5 classes", "0 … 4"]),
    "too small": ("cnn", -6, ["target -6", "out of range"]),
    "one too large": ("cnn", [0, 5], ["[0, 5]", "out of range"]),
    "one of several too large": ("cnn", [[0, 1, 77]], ["77", "out of range"]),
    "too many": ("cnn", [0, 1, 2], ["3 targets for 2 samples", "[[0, 1, 2]]"]),
    "too few": ("cnn", [1], ["1 targets for 2 samples"]),
    "of three samples": ("cnn", [[0], [1], [2]], ["(3, 1)", "2 samples", "1 or 2"]),
    "three axes": ("cnn", [[[1]]], ["(1, 1, 1)", "(N, T)"]),
    "none": ("cnn", np.zeros((0,), int), ["(0,)"]),
    "none of several": ("cnn", np.zeros((2, 0), int), ["(2, 0)"]),
    "text": ("cnn", "cat", ["no class 'cat'", "give the index"]),
    "an object": ("cnn", object(), ["integer"]),
    "ragged": ("cnn", [[1], [1, 2]], ["target"]),
    "a date": ("cnn", np.datetime64("2020-01-01"), ["integer"]),
    "complex": ("cnn", np.ones(5, complex), ["complex", "integer"]),
    "a fraction": ("cnn", 1.5, ["[2, 5]", "[]", "integer"]),
    "a truth": ("cnn", True, ["[2, 5]", "integer"]),
    "a short weighting": ("cnn", np.ones(4), ["[2, 5]", "[5]", "[4]"]),
    "a weighting of other samples": ("cnn", np.ones((3, 5)), ["[2, 5]", "[3, 5]"]),
    "a weighting of more axes": ("cnn", np.ones((1, 2, 5)), ["[2, 5]", "[1, 2, 5]"]),
    "a weighting with NaN": ("cnn", [1, 0, np.nan, 0, 0], ["NaN or infinity"]),
    "an infinite weighting": ("cnn", [1, 0, np.inf, 0, 0], ["NaN or infinity"]),
    "the second class of one unit": ("series", 1, ["target 1", "out of range", "1 classes"]),
    "a mask of another size": ("segmenter", np.ones((4, 3, 4)), ["[2, 4, 4, 4]", "[4, 3, 4]"]),
    "a class beyond the channels": ("segmenter", 4, ["target 4", "4 classes"]),
}


@pytest.mark.parametrize("case", TARGETS)
def test_targets(subjects, case):
    name, target, words = TARGETS[case]
    subject = subjects(name)
    for question in (subject.explainer.gradient, subject.explainer.saliency, subject.explainer.grad_cam):
        with pytest.raises(TargetError) as refusal:
            question(subject.x(2), target)
        assert all(word in str(refusal.value) for word in words), refusal.value


# ----- everything else -----

QUESTIONS = {
    "unknown layer": (
        lambda ex: ex.features(X, "features.01"),
        LayerError,
        ["'features.01'", "did you mean", "'features.0'"],
    ),
    "unknown layer of a gradient": (lambda ex: ex.gradient(X, 1, layer="heads"), LayerError, ["'heads'", "'head'"]),
    "unknown layer of a map": (
        lambda ex: ex.grad_cam(X, 1, layer="featrues"),
        LayerError,
        ["'featrues'", "'features'"],
    ),
    "unknown layer in a list": (lambda ex: ex.grad_cam(X, 1, layer=["features", "nose"]), LayerError, ["'nose'"]),
    "nothing like it": (lambda ex: ex.features(X, "zzzz"), LayerError, ["'zzzz'", "ex.layers lists them"]),
    "layer index": (lambda ex: ex.features(X, 6), LayerError, ["layer 6 is out of range", "6 layers"]),
    "negative layer index": (lambda ex: ex.grad_cam(X, 1, layer=-7), LayerError, ["layer -7 is out of range"]),
    "no layers": (lambda ex: ex.features(X, []), LayerError, ["no layer"]),
    "a map without space": (lambda ex: ex.grad_cam(X, 1, layer="head"), LayerError, ["'head'", "'features.3'"]),
    "of": (lambda ex: ex.gradient(X, 1, of="chance"), OptionError, ["of='chance'", "'logits' or 'probability'"]),
    "of, several targets": (lambda ex: ex.gradient(X, [[1]], of="chance"), OptionError, ["of='chance'"]),
    "unknown output": (
        lambda ex: ex.gradient(X, 1, output="outptu"),
        TargetError,
        ["'outptu'", "did you mean 'output'?"],
    ),
    "unknown output of top": (lambda ex: ex.top(X, output="logits"), TargetError, ["'logits'", "outputs: output"]),
    "reduce": (
        lambda ex: ex.saliency(X, 1, reduce="median"),
        OptionError,
        ["reduce='median'", "'max', 'mean', 'sum' or None"],
    ),
    "method": (lambda ex: ex.explain(X, "gradcam"), OptionError, ["'gradcam'", "saliency", "did you mean 'grad_cam'"]),
    "method of another kind": (lambda ex: ex.explain(X, 3), OptionError, ["method=3", "text"]),
    "option": (lambda ex: ex.explain(X, "saliency", reduc="max"), OptionError, ["'reduc'", "did you mean 'reduce'?"]),
    "option of another method": (
        lambda ex: ex.explain(X, "gradient", upsample=False),
        OptionError,
        ["gradient has no option 'upsample'"],
    ),
    "k of zero": (lambda ex: ex.top(X, 0), OptionError, ["k=0", "positive integer"]),
    "negative k": (lambda ex: ex.top(X, -1), OptionError, ["k=-1"]),
    "fraction of k": (lambda ex: ex.top(X, 2.5), OptionError, ["k=2.5"]),
    "truth as k": (lambda ex: ex.top(X, True), OptionError, ["k=True"]),
    "batch size of zero": (
        lambda ex: setattr(ex, "batch_size", 0),
        OptionError,
        ["batch_size=0", "'auto' or a positive integer"],
    ),
    "batch size in words": (lambda ex: setattr(ex, "batch_size", "all"), OptionError, ["batch_size='all'"]),
    "fraction of a batch": (lambda ex: setattr(ex, "batch_size", 1.5), OptionError, ["batch_size=1.5"]),
    "truth as a batch size": (lambda ex: setattr(ex, "batch_size", True), OptionError, ["batch_size=True"]),
    "no preprocessing": (lambda ex: ex.read_image("cat.jpg"), InputError, ["input=onnxviz.ImageInput"]),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_questions(cnn, case):
    ask, error, words = QUESTIONS[case]
    with pytest.raises(error) as refusal:
        ask(cnn.explainer)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert type(refusal.value) is error


LOADING = {
    "no sessions": ({"max_sessions": 0}, OptionError, ["max_sessions=0", "at least one"]),
    "batch size": ({"batch_size": 0}, OptionError, ["batch_size=0"]),
    "negative batch size": ({"batch_size": -3}, OptionError, ["batch_size=-3"]),
    "precision": ({"precision": "fp8"}, OptionError, ["precision='fp8'", "'float32', 'tf32' or 'float16'"]),
    "provider": ({"providers": "abacus"}, ProviderError, ["'abacus'", "available", "CPUExecutionProvider"]),
    "one of several providers": ({"providers": ["cpu", "abacus"]}, ProviderError, ["'abacus'"]),
}


@pytest.mark.parametrize("case", LOADING)
def test_loading(cnn, case):
    options, error, words = LOADING[case]
    with pytest.raises(error) as refusal:
        ov.load(cnn.path, **options)
    assert all(word in str(refusal.value) for word in words), refusal.value


@pytest.mark.parametrize("providers", ["cpu", "CPU", "CPUExecutionProvider", ["cpu"], ["CPUExecutionProvider"]])
def test_providers_by_short_and_long_names(cnn, providers):
    with ov.load(cnn.path, providers=providers) as ex:
        assert ex.saliency(X, 1).provider == "CPUExecutionProvider"


def test_errors_are_what_python_calls_them():
    """So that ``except ValueError`` and the like catch them as well."""
    kinds = {InputError: ValueError, TargetError: ValueError, OptionError: ValueError, LayerError: LookupError}
    for error, builtin in {**kinds, ProviderError: RuntimeError}.items():
        assert issubclass(error, OnnxvizError)
        assert issubclass(error, builtin)


def test_a_wrong_question_leaves_the_explainer_usable(cnn):
    with ov.load(cnn.path, providers="cpu") as ex:
        for _ in range(3):
            with pytest.raises(TargetError):
                ex.gradient(X, 99)
            with pytest.raises(OptionError):
                ex.gradient(X, of="chance")
        assert np.array_equal(ex.gradient(X, 1).values, ex.gradient(X, 1).values)
        assert ex.gradient(X, 1).values.any()
