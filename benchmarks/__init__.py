"""Times explanations against what a user would pick instead: ``python -m benchmarks``."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "examples"))  # where the networks with real weights are built
