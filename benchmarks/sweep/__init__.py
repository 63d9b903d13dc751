"""Converts every kind of model that people have, and reports how near each file is: ``python -m benchmarks.sweep``."""
