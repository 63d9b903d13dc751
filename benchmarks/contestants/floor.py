"""The floor: the network's own forward pass on ONNX Runtime, from its plain export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.contestants.base import Contestant
from benchmarks.subject import Question, Subject


class Forward(Contestant):
    """A session with default options."""

    name = "forward"
    explains = False

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.setup.threads
        given = dict(self.setup.options)
        providers: list[Any] = [("CPUExecutionProvider", given)]
        if self.setup.provider == "cuda":
            tf32 = {"use_tf32": int(self.setup.precision == "tf32")}
            providers = [("CUDAExecutionProvider", tf32 | given), "CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(subject.plain, options, providers=providers)

    def answer(self, question: Question) -> Callable[[], Any]:
        """The logits."""
        (source,), (logits,) = self.session.get_inputs(), self.session.get_outputs()
        x = question.x.astype(self.setup.dtype)
        if self.setup.transfer:
            return lambda: self.session.run(None, {source.name: x})[0]
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(source.name, onnxruntime.OrtValue.ortvalue_from_numpy(x, self.setup.provider, 0))
        binding.bind_output(logits.name, self.setup.provider)

        def run() -> Any:
            self.session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return binding

        return run

    def to_host(self, answer: Any) -> np.ndarray:
        """The logits on the host."""
        return np.asarray(answer if self.setup.transfer else answer.copy_outputs_to_cpu()[0], np.float32)
