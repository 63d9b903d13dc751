"""Arrays in, matplotlib figures out.

No function touches pyplot's global state, and none rescales in secret: colour bars tell the numbers.
"""

from onnxviz.plot.grids import feature_maps
from onnxviz.plot.panels import compare, overlay
from onnxviz.plot.series import signal

__all__ = ["compare", "feature_maps", "overlay", "signal"]
