"""What a figure shows."""

from __future__ import annotations


def pictures(figure):
    """The arrays that it shows, in order; colour bars hold none."""
    return [image.get_array() for axes in figure.axes for image in axes.images]


def titles(figure):
    """Those of its panels that have one."""
    return [axes.get_title() for axes in figure.axes if axes.get_title()]


def bars(figure):
    """The ends of its colour bars."""
    return [axes.get_ylim() for axes in figure.axes if axes.get_label() == "<colorbar>"]
