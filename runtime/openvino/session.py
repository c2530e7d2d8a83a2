"""A session on OpenVINO: each run is a request of its own, whose outputs decode steps read where they lie."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...profiles.errors import EngineError, RequestCancelled
from ...profiles.signature import Signature
from ..cancellation.guard import current_guard
from ..onnxruntime.session import OnnxRuntimeTensors, check_signature, one_line
from .compiled import compiled
from .options import OpenVinoOptions

Array = npt.NDArray[Any]
HALF, HALF_BYTES = "f16", 2


@dataclass(frozen=True)
class Port:
    """An input or output, as `check_signature` reads it."""

    name: str
    shape: tuple[int | None, ...]


ARRAYS = threading.Lock()
"""Held while the library takes or gives arrays. What it needs of NumPy it makes at the first one, behind a
guard of C++: a second thread would wait there with the lock of the interpreter, which the first one needs."""


class OpenVinoSession(OnnxRuntimeTensors):
    """One graph, compiled for this CPU."""

    number_bytes = 4  # float32, whatever is computed in

    def __init__(self, path: Path, options: OpenVinoOptions) -> None:
        """Load a graph with the weights that it names.

        Args:
            path: the .onnx file.
            options: how it is run.

        Raises:
            DependencyError: OpenVINO is missing.
            ArtifactError: it does not take the graph.
        """
        self._path = path
        self._compiled = compiled(path, options)
        named = [(port, name) for port in self._compiled.outputs for name in port.get_names()]
        self._outputs = {name: port for port, name in named}

    def check(self, signature: Signature) -> None:
        """Refuse a graph of another model than the manifest describes; forget all other outputs.

        Raises:
            ArtifactError: tensors of other names, or of other sizes where these are fixed.
        """
        wanted = {spec.name for spec in signature.outputs}
        self._outputs = {name: port for name, port in self._outputs.items() if name in wanted}
        check_signature(self._path, self, signature)

    def get_inputs(self) -> list[Port]:
        """As `check_signature` reads them."""
        return [Port(port.get_any_name(), _shape(port)) for port in self._compiled.inputs]

    def get_outputs(self) -> list[Port]:
        """The same."""
        return [Port(name, _shape(port)) for name, port in self._outputs.items()]

    @property
    def prefix_number_bytes(self) -> int:
        """Bytes of one number of the prompt's keys and values: nothing else is ever in 16 bits."""
        types = {port.get_element_type().get_type_name() for port in self._outputs.values()}
        return HALF_BYTES if HALF in types else self.number_bytes

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run on arrays and OrtValues; the outputs are OrtValues over memory of the request, theirs alone.

        Raises:
            EngineError: OpenVINO fails, mostly for want of memory; the message tells the inputs' shapes.
            RequestCancelled: the request for which it runs ended.
        """
        request = self._compiled.create_infer_request()
        feed = {name: self._array(each) for name, each in inputs.items()}
        try:
            self._infer(request, feed)
        except RequestCancelled:  # also a RuntimeError
            raise
        except RuntimeError as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            raise EngineError(f"{self._path}: openvino failed on {shapes}: {one_line(error)}") from error
        with ARRAYS:
            return {name: self.keep(request.get_tensor(port).data) for name, port in self._outputs.items()}

    def _array(self, tensor: Any) -> Array:
        array: Array = tensor if isinstance(tensor, np.ndarray) else self.view(tensor)
        return np.ascontiguousarray(array)

    def _infer(self, request: Any, feed: Mapping[str, Array]) -> None:
        """A run that ends early where its request does."""
        if (guard := current_guard()) is None:
            _run(request, feed)
            return
        with guard.stopping(request.cancel):
            try:
                _run(request, feed)
            except RuntimeError as error:
                if ended := guard.error():
                    raise ended from error
                raise


def _run(request: Any, feed: Mapping[str, Array]) -> None:
    with ARRAYS:
        request.start_async(dict(feed), share_inputs=True)
    request.wait()


def _shape(port: Any) -> tuple[int | None, ...]:
    return tuple(None if each.is_dynamic else each.get_length() for each in port.get_partial_shape())
