"""What ``maximize`` returns: how it is kept, drawn and animated."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import onnxviz as ov
from onnxviz.errors import FileFormatError, InputError, OptionError


def test_results_are_kept_drawn_and_animated(pictured, tmp_path):
    found = pictured.maximize([0, "features.2:1"], steps=6, snapshots=4, regularizers=[ov.LpNorm(6, 1e-9)])
    assert found.snapshot_steps == (0, 2, 4, 6)
    np.testing.assert_array_equal(found.snapshots[-1], found.images)
    assert found.snapshots.shape == (4, 2, 3, 12, 12)
    found.save(tmp_path / "found.npz")
    again = ov.Maximization.load(tmp_path / "found.npz")
    assert repr(again) == repr(found)
    np.testing.assert_array_equal(again.pixels(), found.pixels())
    assert again.options["regularizers"] == ["LpNorm(p=6, weight=1e-09)"]
    found.gif(tmp_path / "found.gif", seconds=2)
    with Image.open(tmp_path / "found.gif") as gif:
        assert (gif.n_frames, gif.size, gif.info["duration"]) == (4, (24, 12), 500)
    found.save(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    figure = found.plot(columns=1)
    assert [axes.get_title() for axes in figure.axes] == [found.title(0), found.title(1)]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), found.pixels()[1])


def test_faint_pictures_can_be_stretched(pictured):
    found = pictured.maximize(0, steps=3, regularizers=[ov.L2(1.0)], parameterization="pixels", learning_rate=0.2)
    plain, stretched = found.pixels(), found.pixels(stretch=True)
    assert np.ptp(plain) < 100
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert np.corrcoef(plain.ravel(), stretched.ravel())[0, 1] > 0.98


def test_series_and_volumes_are_drawn(subjects):
    curves = subjects("series").explainer.maximize(["conv:1", "conv:2"], steps=2).plot()
    assert [len(axes.lines) for axes in curves.axes] == [2, 2]
    slices = subjects("volume").explainer.maximize(0, steps=2).plot()
    assert sum(axes.get_title().startswith("slice") for axes in slices.axes) == 6
    with pytest.raises(InputError, match="cannot be drawn"):
        subjects("classifier").explainer.maximize(0, steps=2).plot()


def test_other_files_are_refused(tmp_path, pictured):
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(FileFormatError, match="no Maximization"):
        ov.Maximization.load(tmp_path / "other.npz")
    found = pictured.maximize(0, steps=1)
    with pytest.raises(OptionError, match="snapshots"):
        found.gif(tmp_path / "found.gif")
    with pytest.raises(OptionError, match=r"\.npz"):
        found.save(tmp_path / "found.jpg")
