"""A session on ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from ...profiles.errors import ArtifactError, EngineError, RequestError
from ...profiles.faults import few, shown
from ...profiles.flops import DecoderDims
from ...profiles.kv_layout import rows_of
from ...profiles.signature import Signature
from ..batching.buffers import HostBuffers
from . import int8_sums
from .options import CPU
from .run_options import ERRORS, new_run_options, stoppable

ERRORS_ONLY = 3
HALF_TENSOR, HALF_BYTES = "tensor(float16)", 2
BFLOAT16 = 16  # number of the type in ONNX
REMEDY = "build the artifact again"
SHRINK = {"memory.enable_memory_arena_shrinkage": "cpu:0"}
SPINNING = "session.intra_op.allow_spinning"
"""Threads that wait for work busily take the cores from each other, and from all else on the machine."""
WEIGHTS_AS_UINT8 = "session.x64quantprecision"
"""Weights of int8 are copied to uint8 as a graph loads, which takes other kernels."""
WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


class OnnxRuntimeTensors:
    """What is done with the tensors of a session that are OrtValues."""

    def read(self, tensor: Any) -> npt.NDArray[Any]:
        """An OrtValue as a NumPy array."""
        array: npt.NDArray[Any] = tensor.numpy()
        return array

    def share(self, array: npt.NDArray[Any]) -> Any:
        """An OrtValue that reads the array where it lies."""
        return _ort_value(array)

    def keep(self, array: npt.NDArray[Any]) -> Any:
        """An OrtValue of the array, and what keeps it: views of the value outlive both."""
        return ort.OrtValue.from_dlpack(array)

    def view(self, tensor: Any) -> npt.NDArray[Any]:
        """The numbers of an OrtValue where they lie; of one that is on a device, a copy."""
        if tensor.device_name() != "cpu":
            return self.read(tensor)
        array: npt.NDArray[Any] = np.from_dlpack(tensor)
        return array

    def rows_of(self, tensor: Any) -> int:
        """Rows of a cache tensor."""
        return rows_of(tensor.shape())


class OnnxRuntimeSession(OnnxRuntimeTensors):
    """One graph, loaded from its file with the weights beside it."""

    number_bytes = 4  # float32

    def __init__(
        self,
        path: Path,
        weights: Mapping[str, npt.NDArray[Any]],
        *,
        graph: bytes | None = None,
        threads: int = 0,
        providers: Sequence[str] = (CPU,),
        prepack: bool = False,
        shrink: bool = False,
    ) -> None:
        """Load a graph.

        Args:
            path: the .onnx file.
            weights: its initializers, bf16 as uint16; used where they lie, so they must outlive the session.
            graph: the content of the file, where that was read already. ONNX Runtime still looks whether the
                weight files that it names are beside `path`, but reads none of `weights` from there.
            threads: threads of one run; 0 takes one per core.
            providers: execution providers, the preferred one first.
            prepack: keep a second copy of the weights in the layout that small products like best. Without
                it `weights` are all there is.
            shrink: give working memory back to the system after each run.

        Raises:
            RequestError: a provider that this build of onnxruntime lacks.
            ArtifactError: the graph does not load.
        """
        _check_providers(providers)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = ERRORS_ONLY
        options.enable_mem_pattern = False  # a block is planned for each new shape, beside what is there
        options.add_session_config_entry("session.disable_prepacking", "0" if prepack else "1")
        options.add_session_config_entry(SPINNING, "0")
        options.add_session_config_entry(WEIGHTS_AS_UINT8, str(int(int8_sums.are_cut_off())))
        self._path = path
        self._weights = {name: _initializer(array) for name, array in weights.items()}
        for name, tensor in self._weights.items():
            options.add_initializer(name, tensor)
        if graph is not None:
            options.add_session_config_entry(WEIGHTS_FOLDER, str(path.parent))
        try:
            self._session = ort.InferenceSession(graph or str(path), options, providers=list(providers))
        except ERRORS as error:
            raise ArtifactError(f"{path}: onnxruntime cannot load it: {one_line(error)}") from error
        self._run_entries = SHRINK if shrink else {}
        self._run_options = new_run_options(self._run_entries)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._halves = {given.name for given in self._session.get_inputs() if given.type == HALF_TENSOR}

    def check(self, signature: Signature) -> None:
        """Refuse a graph of another model than the manifest describes.

        Raises:
            ArtifactError: tensors of other names, or of other sizes where these are fixed.
        """
        check_signature(self._path, self._session, signature)

    @property
    def prefix_number_bytes(self) -> int:
        """Bytes of one number of the prompt's keys and values: nothing else is ever in 16 bits."""
        return HALF_BYTES if self._halves else self.number_bytes

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on NumPy arrays and OrtValues; the outputs are OrtValues. Arrays of float32 fit every input.

        Raises:
            EngineError: onnxruntime fails, mostly for want of memory; the message tells the inputs' shapes.
            RequestCancelled: the request for which it runs ended.
        """
        feed = {name: _ort_value(self._narrowed(name, tensor)) for name, tensor in inputs.items()}
        try:
            with stoppable(self._run_options, self._run_entries) as options:
                values = self._session.run_with_ort_values(self._outputs, feed, options)
        except ERRORS as error:
            shapes = ", ".join(f"{name} {tuple(tensor.shape())}" for name, tensor in feed.items())
            raise EngineError(f"{self._path}: onnxruntime failed on {shapes}: {one_line(error)}") from error
        return dict(zip(self._outputs, values, strict=True))

    def buffers(self, dims: DecoderDims, prefix: Mapping[str, npt.NDArray[Any]]) -> HostBuffers:
        """Buffers of the host, with the prefix of one request."""
        return HostBuffers(dims, prefix, self.share, self.read)

    def prefix(self, tensor: Any) -> npt.NDArray[Any]:
        """Keys or values of a prompt where they lie, or an array of them in the bits that the graph takes."""
        if not isinstance(tensor, np.ndarray):
            return self.view(tensor)
        return tensor.astype(np.float16 if self._halves else np.float32, copy=False)

    def _narrowed(self, name: str, tensor: Any) -> Any:
        """An array in 16 bits where the graph takes nothing else."""
        if name in self._halves and isinstance(tensor, np.ndarray):
            return tensor.astype(np.float16)
        return tensor


def check_signature(path: Path, session: Any, signature: Signature) -> None:
    """Refuse a loaded graph of another model than the manifest describes.

    Raises:
        ArtifactError: tensors of other names, or of other sizes where these are fixed.
    """
    given = *session.get_inputs(), *session.get_outputs()
    shapes = {tensor.name: tensor.shape for tensor in given}
    wanted = {spec.name: spec.axes for spec in (*signature.inputs, *signature.outputs)}
    faults = [f"{name} is in one of the two alone" for name in sorted(shapes.keys() ^ wanted.keys())]
    faults += [
        f"{name} is {shown(shape)} in it and {shown(list(wanted[name]))} in the manifest"
        for name, shape in shapes.items()
        if name in wanted and not _agree(shape, wanted[name])
    ]
    if faults:
        words = "; ".join(few(faults))
        raise ArtifactError(f"{path}: its tensors are not those of the manifest: {words}; {REMEDY}")


def _ort_value(tensor: Any) -> Any:
    return ort.OrtValue.ortvalue_from_numpy(tensor) if isinstance(tensor, np.ndarray) else tensor


def _agree(shape: Sequence[object], axes: Sequence[int | str]) -> bool:
    """Whether two shapes have the same number of axes, of the same sizes where both have one."""
    pairs = zip(shape, axes, strict=False)
    return len(shape) == len(axes) and all(
        size == axis for size, axis in pairs if isinstance(size, int) and isinstance(axis, int)
    )


def _initializer(array: npt.NDArray[Any]) -> Any:
    if array.dtype == np.uint16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, BFLOAT16)
    return _ort_value(array)


def one_line(error: Exception) -> str:
    """The message of an error without its line breaks."""
    return " ".join(str(error).split())


def _check_providers(providers: Sequence[str]) -> None:
    available = ort.get_available_providers()
    if missing := [name for name in providers if name not in available]:
        raise RequestError(
            f"execution provider {', '.join(missing)} is not in this build of onnxruntime; "
            f"it has: {', '.join(available)}"
        )
