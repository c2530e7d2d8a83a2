"""A session on ONNX Runtime's CUDA provider: tensors stay on the device, candidates alone come back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ...profiles.errors import ArtifactError, EngineError, RequestCancelled
from ...profiles.kv_layout import rows_of
from ...profiles.signature import LOG_SUM_EXP, POOL_MASK, POOL_ROWS, TOP_IDS, TOP_LOGITS, Signature, grown
from ..decoding.pool_buckets import capacity_for, in_use, widened, with_room
from ..onnxruntime.run_options import ERRORS, stoppable
from ..onnxruntime.session import ERRORS_ONLY, WEIGHTS_FOLDER, check_signature, one_line
from .captured import CapturedSteps, turn
from .options import CPU, OnnxRuntimeCudaOptions
from .provider import RECORD, check_placement, providers
from .values import element_type, on_device, on_host, read

TO_THE_HOST = (TOP_LOGITS, TOP_IDS, LOG_SUM_EXP)
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Pool:
    """Cache rows at the beginning of a tensor with room for more; steps write behind them, in place."""

    buffer: Any  # an OrtValue in KV layout
    rows: int  # in use

    @property
    def capacity(self) -> int:
        """Rows that it has memory for."""
        return rows_of(self.buffer.shape())


class OnnxRuntimeCudaSession:
    """One graph on one device."""

    def __init__(
        self,
        path: Path,
        graph: bytes,
        weights: Mapping[str, Any],
        precision: str,
        options: OnnxRuntimeCudaOptions,
        is_step: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            path: the .onnx file.
            graph: its content.
            weights: its initializers on the device; they must outlive the session.
            precision: the widest that the graph has products of such numbers in.
            options: device, and how strict to be.
            is_step: whether it is the decode step, the only one that can be captured.

        Raises:
            DependencyError: this build of onnxruntime has no CUDA provider.
            EngineError: no device, or nodes that it does not take where that is refused.
            ArtifactError: the graph does not load.
        """
        settings = ort.SessionOptions()
        settings.log_severity_level = ERRORS_ONLY
        settings.add_session_config_entry("session.disable_prepacking", "1")
        settings.add_session_config_entry(RECORD, "1")
        settings.add_session_config_entry(WEIGHTS_FOLDER, str(path.parent))
        for name, value in weights.items():
            settings.add_initializer(name, value)
        captures = is_step and options.cuda_graph and options.kind != CPU
        chosen = providers(options, precision, captures)
        try:
            with turn(options):
                session = ort.InferenceSession(graph, settings, providers=chosen)
        except ERRORS as error:
            raise ArtifactError(f"{path}: onnxruntime cannot load it: {one_line(error)}") from error
        check_placement(session, path, options)
        self._path, self._options, self._weights, self._session = path, options, weights, session
        self._types = {tensor.name: element_type(tensor) for tensor in session.get_inputs()}
        self._outputs = {tensor.name: element_type(tensor) for tensor in session.get_outputs()}
        self._pools = {name for name in self._types if grown(name) in self._outputs}
        self._captured = CapturedSteps(session, self._types, options) if captures else None

    def check(self, signature: Signature) -> None:
        """Refuse a graph of another model than the manifest describes.

        Raises:
            ArtifactError: tensors of other names, or of other sizes where these are fixed.
        """
        check_signature(self._path, self._session, signature)

    @property
    def number_bytes(self) -> int:
        """Bytes of one number of a cache tensor."""
        names = self._pools or {name for name in self._outputs if name not in TO_THE_HOST}
        types = self._types | self._outputs
        return types[min(names)].item_bytes

    @property
    def prefix_number_bytes(self) -> int:
        """The same of the prompt's keys and values."""
        return self.number_bytes

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays, values of the device and pools; outputs are values, and pools of those given.

        A pool that is given is written to behind its rows in use. What grew out of it shares its memory.

        Raises:
            EngineError: onnxruntime fails, mostly for want of memory; the message tells the inputs' shapes.
            RequestCancelled: the request for which it runs ended. A captured step runs to its end.
        """
        with turn(self._options):
            return self._run_in_turn(inputs)

    def _run_in_turn(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        pools: dict[str, Pool] = {}
        if self._pools:
            inputs, pools = self._with_room(inputs)
        buffers = {name: pool.buffer for name, pool in pools.items()}
        try:
            outputs = self._captured.run(inputs, buffers) if self._captured else self._run(inputs, buffers)
        except RequestCancelled:
            raise
        except (*ERRORS, RuntimeError) as error:  # runs with a binding raise the latter
            shapes = ", ".join(f"{name} {_shape(tensor)}" for name, tensor in inputs.items())
            raise EngineError(f"{self._path}: onnxruntime failed on {shapes}: {one_line(error)}") from error
        return {**outputs, **pools}

    def _run(self, inputs: Mapping[str, Any], buffers: Mapping[str, Any]) -> dict[str, Any]:
        """One run that writes into these buffers; the other outputs are new."""
        binding, held = self._session.io_binding(), []
        for name, tensor in inputs.items():
            value = on_host(tensor, self._types[name]) if isinstance(tensor, np.ndarray) else tensor
            held.append(value)
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            if name in buffers:
                binding.bind_ortvalue_output(name, buffers[name])
            elif name in TO_THE_HOST:
                binding.bind_output(name, CPU)
            else:
                binding.bind_output(name, self._options.kind, self._options.number)
        with stoppable(None) as options:
            self._session.run_with_iobinding(binding, options)
        binding.synchronize_outputs()
        return dict(zip(self._outputs, binding.get_outputs(), strict=True))

    def read(self, tensor: Any) -> Array:
        """A value or the rows of a pool as an array."""
        with turn(self._options):
            if isinstance(tensor, Pool):
                return in_use(read(tensor.buffer), tensor.rows)
            return read(tensor)

    def rows_of(self, tensor: Any) -> int:
        """Rows of a cache tensor."""
        return tensor.rows if isinstance(tensor, Pool) else rows_of(tensor.shape())

    def _with_room(self, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Pool]]:
        """The inputs of a step whose pools have room for its rows, and the pools as the step leaves them."""
        mask: npt.NDArray[np.bool_] = inputs[POOL_MASK]
        beams, rows = mask.shape
        capacity = capacity_for(rows)
        fed, left = dict(inputs), {}
        for name in self._pools:
            pool = self._roomy(name, inputs[name], capacity)
            fed[name], left[grown(name)] = pool.buffer, Pool(pool.buffer, rows)
        fed[POOL_MASK], fed[POOL_ROWS] = widened(mask, capacity), np.array([rows - beams])
        return fed, left

    def _roomy(self, name: str, tensor: Any, capacity: int) -> Pool:
        if isinstance(tensor, Pool) and tensor.capacity == capacity:
            return tensor
        rows = tensor if isinstance(tensor, np.ndarray) else self.read(tensor)
        bits = self._types[name].encode(with_room(rows, capacity))
        return Pool(on_device(bits, self._options), rows_of(rows.shape))


def _shape(tensor: Any) -> tuple[int, ...]:
    return tensor.shape if isinstance(tensor, np.ndarray) else tuple(tensor.shape())
