"""A method with its buffers on the device gives what the method gives, and takes and gives tensors without a copy."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import onnxviz as ov
from onnxviz.errors import InputError, OptionError, TargetError
from tests.networks import normal
from tests.support import assert_close

METHODS = {
    "gradient": {}, "saliency": {}, "input_x_gradient": {}, "guided_backprop": {}, "deconvnet": {}, "grad_cam": {},
    "grad_cam_pp": {"upsample": False}, "hires_cam": {}, "layer_cam": {"layer": "features.2"}, "xgrad_cam": {},
}  # fmt: skip
TARGETS = {"the top": None, "one class": 2, "a class each": [1, 4, 0], "a weighting": normal(5, seed=1)}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("method", METHODS)
def test_it_gives_what_the_method_gives(cnn, method, target):
    bound = cnn.explainer.bind(cnn.x(3), method, TARGETS[target], **METHODS[method])
    for x in (cnn.x(3), -cnn.x(3), torch.tensor(2 * cnn.x(3)), {"image": cnn.x(3)}):
        expected = cnn.explainer.explain(x, method, TARGETS[target], **METHODS[method])
        found = bound(x)
        assert_close(found.values.numpy(), expected.values, bar=1e-6)
        assert_close(found.score.numpy(), expected.score, bar=1e-6)
        if target == "the top":
            assert np.array_equal(found.target.numpy(), expected.target)
        else:
            assert found.target is None


def test_another_target_may_be_given_at_each_call(cnn):
    bound = cnn.explainer.bind(cnn.x(3), "gradient", 0)
    for target in ([1, 2, 3], 4, normal(3, 5, seed=2)):
        assert_close(bound(cnn.x(3), target).values.numpy(), cnn.explainer.gradient(cnn.x(3), target).values, bar=1e-6)
    last = bound(cnn.x(3)).values.numpy().copy()
    assert_close(last, cnn.explainer.gradient(cnn.x(3), normal(3, 5, seed=2)).values, bar=1e-6)


def test_tensors_are_shared_not_copied(cnn):
    bound = cnn.explainer.bind(cnn.x(3), "saliency", 1)
    maps = torch.from_dlpack(bound(torch.tensor(cnn.x(3))).values)
    before, place = maps.clone(), maps.data_ptr()
    again = bound(torch.tensor(-cnn.x(3)))
    assert again.values.data_ptr() == place
    assert not torch.equal(maps, before)  # the next call writes into the same memory


@pytest.mark.parametrize(("method", "target", "options"), [
    ("smooth_grad", 1, {"n_samples": 2}), ("integrated_gradients", 1, {"n_steps": 2}), ("occlusion", 1, {}),
    ("gradient", [[1, 2]], {}), ("guided_grad_cam", 1, {}),
])  # fmt: skip
def test_what_takes_several_runs_is_refused(cnn, method, target, options):
    with pytest.raises(OptionError, match=f"{method} is more than one run of one graph.*explain"):
        cnn.explainer.bind(cnn.x(2), method, target, **options)


@pytest.mark.parametrize(("x", "message"), [
    (normal(2, 3, 12, 12), r"input 'image' has shape \[2, 3, 12, 12\].*\[3, 3, 12, 12\], float32 was bound"),
    (normal(3, 3, 12, 12).astype(np.float64), "type float64; .* float32 was bound"),
    (torch.zeros(3, 3, 12, 12, dtype=torch.float64), r"type tensor\(double\)"),
    ({"picture": normal(3, 3, 12, 12)}, "there is no input 'picture'"),
])  # fmt: skip
def test_other_inputs_than_bound_are_refused(cnn, x, message):
    bound = cnn.explainer.bind(cnn.x(3))
    with pytest.raises(InputError, match=message):
        bound(x)


@pytest.mark.parametrize(("bound", "target", "message"), [
    (None, 1, "takes none, it finds the class on top itself"),
    (1, [[1, 2]], "takes one target per sample"),
])  # fmt: skip
def test_another_kind_of_target_is_refused(cnn, bound, target, message):
    with pytest.raises(TargetError, match=message):
        cnn.explainer.bind(cnn.x(3), "gradient", bound)(cnn.x(3), target)


# ----- on a GPU -----


@pytest.mark.gpu
@pytest.mark.parametrize("cuda_graph", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_on_cuda_it_gives_what_the_cpu_gives(cnn, method, cuda_graph):
    with ov.load(cnn.path, providers="cuda") as ex:
        bound = ex.bind(cnn.x(3), method, 1, cuda_graph=cuda_graph, **METHODS[method])
        for x in (cnn.x(3), -cnn.x(3), torch.tensor(2 * cnn.x(3)).cuda(), -2 * cnn.x(3)):
            found = bound(x)
            host = x.cpu().numpy() if isinstance(x, torch.Tensor) else x
            assert found.values.device_name() == "cuda"
            assert_close(
                found.values.numpy(), cnn.explainer.explain(host, method, 1, **METHODS[method]).values, bar=1e-5
            )


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("network", ["cnn", "series", "mixed"])
def test_nothing_falls_back_to_the_cpu(subjects, monkeypatch, tmp_path, method, network):
    """Of series and of mixed layouts too; what is asked of larger networks stands in ``test_placement``."""
    subject = subjects(network)
    made, options = tmp_path / "prepared.onnx", onnxruntime.SessionOptions

    def writing():
        found = options()
        found.optimized_model_filepath = str(made)
        return found

    monkeypatch.setattr(onnxruntime, "SessionOptions", writing)
    with ov.load(subject.path, providers="cuda") as ex:
        ex.explain(subject.x(2), method, 1, **({} if method == "layer_cam" else METHODS[method]))
    counts = Counter(node.op_type for node in onnx.load(made, load_external_data=False).graph.node)
    assert not {name for name in counts if name.startswith("Memcpy")}, counts
