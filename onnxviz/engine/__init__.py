"""Run time: cut the sub-graph that a question needs out of the file, rewrite it, run it on ONNX Runtime."""
