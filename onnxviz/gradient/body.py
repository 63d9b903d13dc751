"""Write the body of a function: as a graph, but its types are those of what it is called with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from onnxviz.gradient.tape import Ops

Stepped = tuple[Sequence[ir.Value], Sequence[ir.Value]]
Step = Callable[..., Stepped]


class BodyOps(Ops):
    """Writes a function's body: no initializers there, and constants take their type from the arguments."""

    def constant(self, array: np.ndarray[Any, Any]) -> ir.Value:
        """A Constant node with this content."""
        node = ir.Node("", "Constant", [], [ir.AttrTensor("value", ir.tensor(array))], name=self._unique("Constant"))
        node.outputs[0].name, node.outputs[0].dtype = node.name, ir.DataType.from_numpy(array.dtype)
        self.graph.append(node)
        return node.outputs[0]

    def number(self, value: float, like: ir.Value) -> ir.Value:
        """A scalar of the type that ``like`` will have."""
        exact = np.float32 if np.float32(value) == value else np.float64  # whatever type the argument may have
        return self.cast_like(self.constant(np.asarray(value, exact)), like)

    def cast_like(self, x: ir.Value, like: ir.Value) -> ir.Value:
        """x in the type that ``like`` will have."""
        return self.CastLike(x, like)

    def shape_of(self, x: ir.Value) -> ir.Value:
        """The shape of x when the function is called."""
        return self.Shape(x)

    def scan(
        self, step: Step, states: Sequence[ir.Value], sequences: Sequence[ir.Value], *, backwards: bool = False
    ) -> list[ir.Value]:
        """A recurrence over the first axis of the sequences.

        Args:
            step: ``step(op, *states, *elements)`` returns the next states and what it gives out at this step. It may
                read values of the function around it: a graph's Scan may not, since the engine cuts graphs by what
                nodes name as inputs.
            states: the states before the first step.
            sequences: what each step gets an element of.
            backwards: from the last element to the first.

        Returns:
            The states after the last step, then each thing given out, stacked along a first axis in the order of the
            sequences.
        """
        graph = ir.Graph([ir.Value(name=self._unique("scan")) for _ in (*states, *sequences)], [], nodes=[])
        inner = BodyOps(graph, self.library, prefix=f"{self._unique('step')}/")
        after, given = step(inner, *graph.inputs)
        graph.name = inner.prefix[:-1]
        graph.outputs.extend(inner.Identity(value) for value in (*after, *given))  # an output may be named only once
        return self.several(
            "Scan",
            len(graph.outputs),
            *states,
            *sequences,
            body=graph,
            num_scan_inputs=len(sequences),
            scan_input_directions=[int(backwards)] * len(sequences),
            scan_output_directions=[int(backwards)] * len(given),
        )
