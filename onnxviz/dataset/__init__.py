"""Data sets of any size: every sample explained, streamed from files or arrays into Zarr or Parquet.

``explaining`` has what users call, :func:`onnxviz.explain_dataset`. The way of a sample: ``sources`` list it and read
it, from ``files`` among others; ``reading`` does so in threads, ahead of time; ``parts`` explains a batch; ``writing``
has it stored beside the computing, by ``zarr_sink`` or ``parquet_sink``, so that it is there or not (``sinks``).
``identity`` is what a sink was begun with, so that another run can go on with it. ``ray`` explains batches elsewhere.
"""
