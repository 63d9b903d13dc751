from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

import onnxviz as ov
from onnxviz.errors import InputError, LayerError, OptionError
from tests.support import assert_close, mlp

N = 40


@pytest.fixture(scope="module")
def ex(tmp_path_factory):
    """A network with 400 units, so that PCA comes before t-SNE."""
    path = ov.convert(mlp(), tmp_path_factory.mktemp("mlp") / "net.onnx", quiet=True, classes=["a", "b", "c"])
    with ov.load(path, providers="cpu", threads=1) as explainer:
        yield explainer


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32)


def test_pca_of_the_logits_is_scikit_learn_s(ex, x):
    found = ex.embed(x)
    pca = PCA(2)
    assert_close(found.points, pca.fit_transform(ex.predict(x)), 1e-5)
    np.testing.assert_allclose(found.explained_variance, pca.explained_variance_ratio_, rtol=1e-5)
    assert (found.layer, found.method, found.labels, found.notes) == ("logits", "pca", None, ())
    assert found.points.dtype == np.float32
    assert np.asarray(found).shape == (N, 2)


def test_tsne_is_scikit_learn_s_after_fifty_components(ex, x):
    found = ex.embed(x, "a", method="tsne", perplexity=8, seed=3)
    features = ex.features(x, "a")["a"].astype(np.float64)
    assert features.shape[1] > 50
    reduced = PCA(N, random_state=3).fit_transform(features)
    expected = TSNE(2, perplexity=8, random_state=3, init="pca").fit_transform(reduced)
    assert_close(found.points, expected, 1e-3)
    assert "Distances between groups" in found.notes[0]
    assert len(found.explained_variance) == N


def test_tsne_of_few_features_needs_no_pca(ex, x):
    found = ex.embed(x, method="tsne", perplexity=5)
    assert found.explained_variance is None
    expected = TSNE(2, perplexity=5, random_state=0, init="pca").fit_transform(ex.predict(x).astype(np.float64))
    assert_close(found.points, expected, 1e-3)
    np.testing.assert_array_equal(found.points, ex.embed(x, method="tsne", perplexity=5).points)


@pytest.mark.parametrize("size", [1, 7, N])
def test_the_size_of_the_batches_does_not_matter(ex, x, size):
    labels = np.arange(N) % 3
    batches = ((x[i : i + size], labels[i : i + size]) for i in range(0, N, size))
    found, expected = ex.embed(batches, "h", components=3), ex.embed((x, labels), "h", components=3)
    assert_close(found.points, expected.points, 1e-5)
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("name", ["series", "cnn", "volume"])
def test_spatial_layers_are_pooled_or_flattened(subjects, name):
    subject = subjects(name)
    x, layer = subject.x(9), {"series": "conv", "cnn": "features.2", "volume": "conv"}[name]
    values = subject.explainer.features(x, layer)[layer].astype(np.float64)
    pooled = values.mean(tuple(range(2, values.ndim)))
    for pool, features in ((True, pooled), (False, values.reshape(9, -1))):
        found = subject.explainer.embed(x, layer, pool=pool)
        assert found.options["features"] == features.shape[1]
        assert_close(found.points, PCA(2).fit_transform(features), 1e-4)


def test_channels_last_are_pooled_by_channel(tmp_path):
    from tests.support import nhwc

    model, _ = nhwc()
    path = ov.convert(model, tmp_path / "nhwc.onnx", example=np.zeros((1, 9, 11, 3), np.float32), quiet=True)
    x = np.random.default_rng(0).standard_normal((8, 9, 11, 3)).astype(np.float32)
    with ov.load(path, providers="cpu") as ex:
        (layer,) = [t for t in ex.layers if t.operator == "Relu"]
        values = ex.features(x, layer.name)[layer.name]
        expected = PCA(2).fit_transform(values.mean(layer.axes.spatial, dtype=np.float64))
        assert_close(ex.embed(x, layer.name).points, expected, 1e-4)


def test_text_labels_and_class_names(ex, x):
    found = ex.embed((x, np.array(["cat", "dog"] * (N // 2))))
    (legend,) = found.plot().legends
    assert [t.get_text() for t in legend.get_texts()] == ["cat", "dog"]
    (named,) = found.plot(np.arange(N) % 3).legends
    assert [t.get_text() for t in named.get_texts()] == ["a", "b", "c"]
    assert "2 different labels" in repr(found)


def test_the_plot_tells_shares_and_the_note(ex, x):
    axes = ex.embed(x).plot().axes[0]
    assert axes.get_xlabel().startswith("principal component 1 (")
    assert "% of the variance" in axes.get_ylabel()
    figure = ex.embed(x, method="tsne", perplexity=5).plot()
    assert "mean nothing" in figure.get_supxlabel().replace("\n", " ")
    with pytest.raises(OptionError, match="two components"):
        ex.embed(x, components=1).plot()


def test_a_constant_layer_has_no_variance_and_no_nan(ex):
    found = ex.embed(np.ones((5, 6), np.float32))
    assert np.abs(found.points).max() < 1e-4
    assert np.isfinite(found.explained_variance).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "umap"}, OptionError, "method is one of pca, tsne; got 'umap'"),
        ({"components": 0}, OptionError, "components is a positive"),
        ({"components": True}, OptionError, "components=True: expected an integer"),
        ({"components": 4}, OptionError, "40 samples with 3 features have at most 3"),
        ({"components": 4, "method": "tsne"}, OptionError, "at most 3 for t-SNE"),
        ({"method": "tsne", "perplexity": 40}, OptionError, "perplexity.*40 samples"),
        ({"layer": "hh"}, LayerError, "no layer 'hh'"),
    ],
)
def test_wrong_options_are_refused(ex, x, options, error, message):
    with pytest.raises(error, match=message):
        ex.embed(x, **options)


def test_an_iterator_that_was_read_is_refused(ex, x):
    batches = iter([x])
    ex.embed(batches)
    with pytest.raises(InputError, match="read once only"):
        ex.embed(batches)
