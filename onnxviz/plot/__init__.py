"""Arrays in, matplotlib figures out.

No function touches pyplot's global state, and none rescales in secret: colour bars tell the numbers.
"""

from onnxviz.plot.grids import feature_maps
from onnxviz.plot.panels import compare, overlay
from onnxviz.plot.scatter import scatter
from onnxviz.plot.series import signal, timeline
from onnxviz.plot.sheets import filters, sheet
from onnxviz.plot.units import top_inputs, unit_stats

__all__ = [
    "compare", "feature_maps", "filters", "overlay", "scatter", "sheet", "signal", "timeline", "top_inputs",
    "unit_stats",
]  # fmt: skip
