"""onnxviz explains trained networks from one ONNX file, whatever framework they came from.

``convert`` a model once, ``load`` the file, ask the :class:`Explainer`. Names are imported when they are first used, so
that ``import onnxviz`` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxviz import plot, targets
    from onnxviz.algorithms.embedding import Embedding
    from onnxviz.algorithms.registry import methods
    from onnxviz.algorithms.regularizers import L2, Blur, LpNorm, TotalVariation
    from onnxviz.algorithms.units import UnitStats
    from onnxviz.conversion import convert
    from onnxviz.dataset.explaining import explain_dataset
    from onnxviz.engine.explainer import Explainer, load
    from onnxviz.errors import OnnxvizError
    from onnxviz.explanation import Explanation
    from onnxviz.image import ImageInput
    from onnxviz.maximization import Maximization
    from onnxviz.operators import coverage
    from onnxviz.trust.evaluation import Evaluation, evaluate
    from onnxviz.trust.sanity import SanityCheck, sanity_check

__version__ = "0.1.0"
__all__ = [
    "L2", "Blur", "Embedding", "Evaluation", "Explainer", "Explanation", "ImageInput", "LpNorm", "Maximization",
    "OnnxvizError", "SanityCheck", "TotalVariation", "UnitStats", "convert", "coverage", "evaluate",
    "explain_dataset", "load", "methods", "plot", "sanity_check", "targets",
]  # fmt: skip

_HOMES = {
    "L2": "onnxviz.algorithms.regularizers",
    "Blur": "onnxviz.algorithms.regularizers",
    "Embedding": "onnxviz.algorithms.embedding",
    "Evaluation": "onnxviz.trust.evaluation",
    "Explainer": "onnxviz.engine.explainer",
    "Explanation": "onnxviz.explanation",
    "ImageInput": "onnxviz.image",
    "LpNorm": "onnxviz.algorithms.regularizers",
    "Maximization": "onnxviz.maximization",
    "OnnxvizError": "onnxviz.errors",
    "SanityCheck": "onnxviz.trust.sanity",
    "TotalVariation": "onnxviz.algorithms.regularizers",
    "UnitStats": "onnxviz.algorithms.units",
    "convert": "onnxviz.conversion",
    "coverage": "onnxviz.operators",
    "evaluate": "onnxviz.trust.evaluation",
    "explain_dataset": "onnxviz.dataset.explaining",
    "load": "onnxviz.engine.explainer",
    "methods": "onnxviz.algorithms.registry",
    "sanity_check": "onnxviz.trust.sanity",
}


def __getattr__(name: str) -> Any:
    if name in {"plot", "targets"}:
        return import_module(f"onnxviz.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'onnxviz' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
