"""A page that shows what a network sees in some inputs: one HTML file that needs nothing else."""

from onnxviz.report.answers import Asked
from onnxviz.report.writing import Report, report, write

__all__ = ["Asked", "Report", "report", "write"]
