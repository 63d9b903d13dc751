"""ONNX Runtime's own gradient graph, from its last training build.

The build shares the import name ``onnxruntime`` with the stock one, so it runs in an environment of its own, as a
process that is asked over a pipe. A round trip of about a tenth of a millisecond is part of its time.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from benchmarks.contestants.base import Absent, Contestant
from benchmarks.subject import Question, Subject

PACKAGE = "onnxruntime-training-cpu==1.19.2"
WORKER = Path(__file__).with_name("training_worker.py")


class OrtTraining(Contestant):
    """``GradientGraphBuilder`` on the plain export, and its session."""

    name = "ort-training"
    providers = ("cpu",)

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        if self.setup.training is None:
            raise Absent(f"no environment with {PACKAGE} was named (--training)")
        model, self.units = _with_loss(subject.plain)
        self.worker = Worker(self.setup.training, model, self.setup.threads)

    @property
    def pid(self) -> int:
        """The process with the training build."""
        return self.worker.process.pid

    def answer(self, question: Question) -> Callable[[], Any]:
        """Saliency: its gradient of the input, and the largest absolute value of the channels."""
        if question.method != "saliency":
            raise Absent("it is compared by its gradient of the input, in saliency")
        folder = self.subject.folder
        given, found = folder / f"training_{len(question.x)}.npz", folder / f"training_{len(question.x)}.npy"
        np.savez(given, x=question.x, seed=np.eye(self.units, dtype=np.float32)[question.classes])
        self.worker.ask(given=str(given), found=str(found))
        result = np.load(found, mmap_mode="r")

        def run() -> np.ndarray:
            self.worker.ask()
            return result

        return run

    def close(self) -> None:
        """End the process."""
        self.worker.close()


class Worker:
    """The process with the training build.

    Args:
        python: the interpreter of its environment.
        model: whose output ``loss`` is differentiated.
        threads: of its session.

    Raises:
        Absent: the builder refuses the model.
    """

    def __init__(self, python: str, model: Path, threads: int) -> None:
        environment = {"PATH": "/usr/bin:/bin"}  # none of this process's import paths
        self.process = subprocess.Popen(
            [python, "-P", WORKER, model, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        self._answer()

    def ask(self, **files: str) -> None:
        """Have it compute the question in these files, or the same again; returns when the result is written."""
        assert self.process.stdin is not None
        print(json.dumps(files), file=self.process.stdin, flush=True)
        self._answer()

    def close(self) -> None:
        """It ends when nobody can ask it any more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _answer(self) -> None:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if line != "done":
            self.close()
            raise Absent(f"its builder refuses this model: {line or 'the process ended'}")


def _with_loss(plain: Path) -> tuple[Path, int]:
    """The plain export with an output ``loss``, the sum of the logits times a new input ``seed``; and their number."""
    path = plain.with_name(f"{plain.stem}_loss.onnx")
    model = onnx.load(plain)
    logits = model.graph.output[0]
    model.graph.node.append(helper.make_node("Mul", [logits.name, "seed"], ["weighted"]))
    model.graph.node.append(helper.make_node("ReduceSum", ["weighted"], ["loss"], keepdims=0))
    model.graph.input.append(helper.make_tensor_value_info("seed", TensorProto.FLOAT, ["N", None]))
    model.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    onnx.save(model, path)
    return path, logits.type.tensor_type.shape.dim[-1].dim_value
