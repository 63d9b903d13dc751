"""Build-time passes over the forward graph: canonical form, layer names, shapes, axis roles."""
