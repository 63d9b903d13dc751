"""The command line, by typer: ``onnxviz --help``.

Exit codes: 0 all went well; 1 onnxviz refused, and said why on stderr; 2 the command line itself is wrong. Results go
to stdout, everything else to stderr; progress bars show on a terminal only.
"""

from onnxviz.cli import converting, explaining, exporting, inspecting, looking, timing
from onnxviz.cli.shell import app, main

__all__ = ["app", "converting", "explaining", "exporting", "inspecting", "looking", "main", "timing"]
