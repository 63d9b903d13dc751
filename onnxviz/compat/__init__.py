"""onnxviz asked in the way of other libraries: a module for each, none of which imports the library's framework.

``captum`` and ``grad_cam`` have those libraries' classes with an :class:`onnxviz.Explainer` in the place of the model;
``quantus`` lets Quantus' metrics judge the maps of one.
"""
