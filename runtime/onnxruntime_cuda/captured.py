"""Decode steps captured as CUDA graphs and replayed: no launch of a kernel by the host within a step.

A captured step reads and writes the memory that it was captured with. So each kind of step (the same caches
and the same shapes) has buffers of its own, which are filled before a run. Nothing else of the process may
use the device during a capture. This has never run on a device.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ...profiles.signature import LOG_SUM_EXP, NUM_CANDIDATES, TOKEN_IDS, TOP_IDS, TOP_LOGITS, prefix_key
from ..tensorrt.element_types import ElementType
from .options import OnnxRuntimeCudaOptions
from .values import on_device, on_host

MOST = 16  # kinds of steps that are kept; each takes memory of the device
GRAPH_ID = "gpu_graph_id"
DEVICE = threading.RLock()
Array = npt.NDArray[Any]


def turn(options: OnnxRuntimeCudaOptions) -> AbstractContextManager[Any]:
    """What to hold while the device is used: it has one user at a time where steps are captured."""
    return DEVICE if options.cuda_graph else nullcontext()


@dataclass(frozen=True)
class _Step:
    number: int  # by which ONNX Runtime knows it
    binding: Any
    buffers: Mapping[str, Any]  # of the inputs that arrays are given for
    outputs: Mapping[str, Any]  # what comes back to the host


class CapturedSteps:
    """The steps of one decode session for the request that ran last.

    One thread captures, replays and releases them: ONNX Runtime has a captured graph for that thread alone.
    """

    def __init__(
        self, session: Any, types: Mapping[str, ElementType], options: OnnxRuntimeCudaOptions
    ) -> None:
        """Of a session whose provider captures, and the types of its inputs."""
        self._session, self._types, self._options = session, types, options
        self._steps: OrderedDict[Any, _Step] = OrderedDict()
        self._thread, self._next = ThreadPoolExecutor(1, "fastadasp-captured"), 1
        self._request: Any = None  # where its prefix lies

    def run(self, inputs: Mapping[str, Any], pools: Mapping[str, Any]) -> dict[str, Any]:
        """Run a step on arrays and values of the device; what comes back to the host, as new values.

        `pools` are the outputs that are written in place, with their memory.
        """
        return self._thread.submit(self._run, inputs, pools).result()

    def _run(self, inputs: Mapping[str, Any], pools: Mapping[str, Any]) -> dict[str, Any]:
        step = self._step_for(inputs, pools)
        for name, buffer in step.buffers.items():
            buffer.update_inplace(on_host(inputs[name], self._types[name]))
        settings = ort.RunOptions()
        settings.add_run_config_entry(GRAPH_ID, str(step.number))
        self._session.run_with_iobinding(step.binding, settings)
        return {name: ort.OrtValue.ortvalue_from_numpy(value.numpy()) for name, value in step.outputs.items()}

    def _step_for(self, inputs: Mapping[str, Any], pools: Mapping[str, Any]) -> _Step:
        request = _kind(prefix_key(0), inputs[prefix_key(0)])
        if request != self._request:
            self._request = request
            while self._steps:
                self._release_oldest()
        key = tuple(_kind(name, tensor) for name, tensor in sorted(inputs.items()))
        if key in self._steps:
            self._steps.move_to_end(key)
            return self._steps[key]
        if len(self._steps) == MOST:
            self._release_oldest()
        self._steps[key] = step = self._bound(inputs, pools)
        self._next += 1
        return step

    def _release_oldest(self) -> None:
        _, oldest = self._steps.popitem(last=False)
        self._session.release_captured_graph(oldest.number)

    def _bound(self, inputs: Mapping[str, Any], pools: Mapping[str, Any]) -> _Step:
        binding, buffers = self._session.io_binding(), {}
        for name, tensor in inputs.items():
            value: Any = tensor
            if name == NUM_CANDIDATES:  # the host reads it when a step is captured
                value = on_host(inputs[name], self._types[name])
            elif isinstance(tensor, np.ndarray):
                value = buffers[name] = on_device(self._types[name].encode(tensor), self._options)
            binding.bind_ortvalue_input(name, value)
        outputs = self._outputs(inputs)
        for output in self._session.get_outputs():
            binding.bind_ortvalue_output(output.name, (outputs | dict(pools))[output.name])
        return _Step(self._next, binding, buffers, outputs)

    def _outputs(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        beams = len(inputs[TOKEN_IDS])
        shape = beams, int(inputs[NUM_CANDIDATES][0])
        empty: dict[str, Array] = {
            TOP_LOGITS: np.zeros(shape, np.float32),
            TOP_IDS: np.zeros(shape, np.int64),
            LOG_SUM_EXP: np.zeros(beams, np.float32),
        }
        return {name: on_device(array, self._options) for name, array in empty.items()}


def _kind(name: str, tensor: Any) -> tuple[Any, ...]:
    """What makes a step another one: where a value of the device lies, or how large an array is."""
    if not isinstance(tensor, np.ndarray):
        return name, tensor.data_ptr(), tuple(tensor.shape())
    return (name, tensor.shape, int(tensor[0])) if name == NUM_CANDIDATES else (name, tensor.shape)
