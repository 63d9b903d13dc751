"""One file for inputs of any size: from each source, against the source's own gradient at sizes never seen before."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
import torch
from keras import layers
from torch import nn
from torch.nn import functional as F

import onnxviz as ov
from onnxviz.errors import InputError, OptionError
from tests.support import assert_close, normal

SIZES = [(32, 32), (33, 47), (64, 40), (17, 90)]


class Segmenter(nn.Module):
    """A little of everything that depends on sizes: strides, pools, crops, resizing to another layer's size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.meanpool = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.reflect = nn.ReflectionPad2d(2)
        self.conv = nn.Conv2d(6, 6, 5)
        self.up = nn.ConvTranspose2d(6, 6, 2, 2)
        self.head = nn.Conv2d(6, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.stem(x)))
        z = self.maxpool(y) + self.meanpool(y)
        z = torch.relu(self.conv(self.reflect(z)))
        z = self.up(z)[:, :, : y.shape[2], : y.shape[3]] + F.interpolate(z, size=y.shape[2:], mode="bilinear") + y
        return F.interpolate(self.head(z), scale_factor=2, mode="nearest")


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    torch.manual_seed(0)
    return Segmenter().eval()


@pytest.fixture(scope="module")
def segmentation(segmenter: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("open") / "segmenter.onnx"
    return ov.convert(segmenter, path, example=torch.randn(1, 3, 32, 32), open_sizes=True, quiet=True)


@pytest.mark.parametrize("size", SIZES)
def test_pytorch(segmenter: nn.Module, segmentation: Path, size: tuple[int, int]) -> None:
    x = normal(2, 3, *size, seed=5)
    leaf = torch.tensor(x, requires_grad=True)
    scores = segmenter(leaf)
    scores[:, 1].sum().backward()
    with ov.load(segmentation) as ex:
        assert_close(ex.predict(x), scores.detach().numpy(), 1e-5)
        assert_close(np.asarray(ex.gradient(x, target=1)), leaf.grad.numpy(), 1e-5)
        assert ex.saliency(x).values.shape == (2, *size)
        assert ex.grad_cam(x, target=[[0, 1]], layer="conv").values.shape == (2, 2, *size)
        assert ex.features(x, layers=["stem"])["stem"].shape == (2, 6, (size[0] + 1) // 2, (size[1] + 1) // 2)


def test_a_mask_as_target_has_the_size_of_the_output(segmenter: nn.Module, segmentation: Path) -> None:
    x, mask = normal(1, 3, 33, 47, seed=6), np.zeros((4, 34, 48), np.float32)
    mask[2, :9, 10:20] = 1
    leaf = torch.tensor(x, requires_grad=True)
    (segmenter(leaf)[0] * torch.tensor(mask)).sum().backward()
    with ov.load(segmentation) as ex:
        assert_close(np.asarray(ex.gradient(x, target=mask)), leaf.grad.numpy(), 1e-5)


def test_layers_tell_how_their_sizes_follow(segmentation: Path) -> None:
    with ov.load(segmentation) as ex:
        assert ex.layers["stem"].shape == ("N", 6, "ceil(height/2)", "ceil(width/2)")
        assert ex.layers["maxpool"].shape == ("N", 6, "ceil(height/4)", "ceil(width/4)")
        assert ex.layers["stem"].axes.spatial == (2, 3)
        assert "resized" in ex.residuals


def test_larger_inputs_are_cut_into_smaller_chunks(segmentation: Path) -> None:
    with ov.load(segmentation) as ex:
        manifest = ex._engine.bundle.manifest
        assert manifest.sizes == {"height": 32, "width": 32}
        assert manifest.times_the_example({"x": (1, 3, 64, 96)}) == 6


def test_stock_onnxruntime_takes_any_size(segmentation: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(segmentation)
    x = normal(2, 3, 41, 26)
    (seed,) = [each.name for each in session.get_overridable_initializers()]
    found = session.run(["grad/x"], {"x": x, seed: np.ones((1, 4, 1, 1), np.float32)})[0]
    with ov.load(segmentation) as ex:
        assert_close(found, np.asarray(ex.gradient(x, target=np.ones(4, np.float32))), 1e-6)


def test_a_pytorch_module_is_fixed_unless_asked(segmenter: nn.Module, tmp_path: Path) -> None:
    path = ov.convert(segmenter, tmp_path / "fixed.onnx", example=torch.randn(1, 3, 32, 32), quiet=True)
    with ov.load(path) as ex, pytest.raises(InputError, match=r"\[1, 3, 33, 47\], the model takes \['N', 3, 32, 32\]"):
        ex.predict(normal(1, 3, 33, 47))


def test_a_program_keeps_what_it_leaves_open(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    auto = torch.export.Dim.AUTO
    program = torch.export.export(net, (torch.randn(2, 3, 24, 24),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    with ov.load(ov.convert(program, tmp_path / "program.onnx", quiet=True)) as ex:
        x = normal(1, 3, 31, 50)
        leaf = torch.tensor(x, requires_grad=True)
        net(leaf)[:, 2].sum().backward()
        assert_close(np.asarray(ex.gradient(x, target=2)), leaf.grad.numpy(), 1e-5)


KERAS = {
    "convolutions": [
        keras.Input((None, None, 3)),
        layers.Conv2D(6, 3, strides=2, padding="same", activation="relu"),
        layers.MaxPooling2D(3, 2, padding="same"),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.BatchNormalization(),
        layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
        layers.UpSampling2D(2),
        layers.ZeroPadding2D(1),
        layers.AveragePooling2D(3, 2, padding="same"),
        layers.GlobalMaxPooling2D(),
        layers.Dense(4),
    ],
    "series": [
        keras.Input((None, 3)),
        layers.Conv1D(6, 5, padding="causal", activation="tanh"),
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
        layers.GRU(6),
        layers.Dense(4),
    ],
}


@pytest.mark.parametrize("name", KERAS)
def test_keras(name: str, tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(KERAS[name])
    shapes = [(24, 24), (25, 38), (47, 21)] if name == "convolutions" else [(12,), (19,), (90,)]
    path = ov.convert(model, tmp_path / "model.onnx", example=normal(1, *shapes[0], 3), quiet=True)
    with ov.load(path) as ex:
        for size in shapes:
            x = normal(2, *size, 3, seed=3)
            with tf.GradientTape() as tape:
                leaf = tf.constant(x)
                tape.watch(leaf)
                score = tf.reduce_sum(model(leaf, training=False)[:, 1])
            assert_close(np.asarray(ex.gradient(x, target=1)), tape.gradient(score, leaf).numpy(), 1e-5)
            assert ex.saliency(x).values.shape == (2, *size)


def onnx_file(path: Path, nodes: str, shape: str = "N, 3, height, width") -> Path:
    kernels = {"w": normal(4, 3, 3, 3), "v": normal(4, 4, 3, 3)}
    weights = [onnx.numpy_helper.from_array(kernel, name) for name, kernel in kernels.items()]
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{shape}] x) => (float[N, 4] y) {{ {nodes} }}'
    )
    model.graph.initializer.extend(weights)
    onnx.save(model, path)
    return path


NODES = "c = Conv<strides = [2, 2]>(x, w)  r = Relu(c)  p = GlobalAveragePool(r)  y = Flatten(p)"


def test_onnx(tmp_path: Path) -> None:
    plain = onnx_file(tmp_path / "plain.onnx", NODES)
    path = ov.convert(plain, tmp_path / "open.onnx", example=normal(1, 3, 20, 20), quiet=True)
    with ov.load(path) as ex:
        x = normal(2, 3, 35, 22)
        leaf = torch.tensor(x, requires_grad=True)
        F.conv2d(leaf, torch.tensor(normal(4, 3, 3, 3)), stride=2).relu().mean((2, 3))[:, 3].sum().backward()
        assert_close(np.asarray(ex.gradient(x, target=3)), leaf.grad.numpy(), 1e-5)


@pytest.mark.parametrize("size", [(2, 30), (30, 1)])
def test_inputs_that_are_too_small(size: tuple[int, int], tmp_path: Path) -> None:
    """Windows that do not fit leave nothing, and onnxruntime would divide by its size."""
    nodes = "c = Conv(x, w)  q = MaxPool<kernel_shape = [2, 2]>(c)  p = GlobalAveragePool(q)  y = Flatten(p)"
    plain = onnx_file(tmp_path / "plain.onnx", nodes)
    with ov.load(ov.convert(plain, tmp_path / "open.onnx", example=normal(1, 3, 20, 20), quiet=True)) as ex:
        for ask in (ex.predict, ex.features, ex.saliency, ex.grad_cam, ex.smooth_grad):
            with pytest.raises(InputError, match=r"too small for this network: its value '[cq]' would be empty"):
                ask(normal(1, 3, *size))


@pytest.mark.parametrize(("open_sizes", "shape"), [(False, ("N", 4, 9, 9)), ({"x": (3,)}, ("N", 4, 9, "size_0"))])
def test_fewer_sizes_than_the_file_leaves_open(open_sizes: object, shape: tuple[object, ...], tmp_path: Path) -> None:
    plain = onnx_file(tmp_path / "plain.onnx", NODES)
    path = ov.convert(plain, tmp_path / "open.onnx", example=normal(1, 3, 20, 20), open_sizes=open_sizes, quiet=True)
    with ov.load(path) as ex:
        assert ex.layers["c"].shape == shape
        with pytest.raises(InputError, match="the model takes"):
            ex.predict(normal(1, 3, 35, 20))


def test_what_runs_at_one_size_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = (
        "c = Conv(x, w)  r = Relu(c)  s = Constant<value_ints = [-1, 4, 324]>()  f = Reshape(r, s)"
        "  y = ReduceMean<axes = [2], keepdims = 0>(f)"
    )
    plain = onnx_file(tmp_path / "plain.onnx", nodes)
    ov.convert(plain, tmp_path / "fixed.onnx", example=normal(1, 3, 20, 20))
    told = capsys.readouterr().out
    assert "the sizes 20 (axis 2), 20 (axis 3) of input 'x' stay as they are in the example" in told
    with ov.load(tmp_path / "fixed.onnx") as ex, pytest.raises(InputError, match="20, 20"):
        ex.predict(normal(1, 3, 21, 20))


def test_what_needs_to_know_a_size_keeps_the_example_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nodes = "c = ConvTranspose<output_shape = [22, 22]>(x, v)  p = GlobalMaxPool(c)  y = Flatten(p)"
    plain = onnx_file(tmp_path / "plain.onnx", nodes, "N, 4, height, width")
    ov.convert(plain, tmp_path / "fixed.onnx", example=normal(1, 4, 20, 20))
    assert (
        "stay as they are in the example: ConvTranspose 'ConvTranspose' asks for an output" in capsys.readouterr().out
    )
    with ov.load(tmp_path / "fixed.onnx") as ex:
        assert ex.layers["c"].shape == ("N", 4, 22, 22)


@pytest.mark.parametrize(
    ("open_sizes", "message"),
    [
        ({"z": (2,)}, "no axis of 'z' can be open; inputs that have such axes: 'x'"),
        ({"x": (1,)}, r"of input 'x' only the axes \[2, 3\] can be open"),
    ],
)
def test_axes_that_cannot_be_open(open_sizes: object, message: str, tmp_path: Path) -> None:
    plain = onnx_file(tmp_path / "plain.onnx", NODES)
    with pytest.raises(OptionError, match=message):
        ov.convert(plain, tmp_path / "open.onnx", example=normal(1, 3, 20, 20), open_sizes=open_sizes, quiet=True)


def test_a_file_that_passes_at_the_example_s_size_alone_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if the original computed something else at other sizes."""
    from onnxviz.graph.original import Original

    run = Original.run

    def other(self: Original, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = run(self, feeds)
        return found if feeds["x"].shape[2:] == (20, 20) else {name: value + 1 for name, value in found.items()}

    monkeypatch.setattr(Original, "run", other)
    plain = onnx_file(tmp_path / "plain.onnx", NODES)
    path = ov.convert(plain, tmp_path / "fixed.onnx", example=normal(1, 3, 20, 20))
    told = capsys.readouterr().out
    assert "stay as they are in the example: it passed the check at the example's size, but not at another" in told
    with ov.load(path) as ex:
        assert ex.layers["c"].shape == ("N", 4, 9, 9)
        assert "resized" not in ex.residuals
