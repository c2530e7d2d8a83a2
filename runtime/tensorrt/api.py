"""The part of TensorRT that the runtime uses, with types; it is the same in TensorRT-RTX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol


class Context(Protocol):
    """`IExecutionContext`: an engine with addresses and shapes for one run."""

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        """False if the optimization profile does not hold it."""

    def set_tensor_address(self, name: str, memory: int) -> bool:
        """Of device memory, or of host memory where the tensor's location says so."""

    def infer_shapes(self) -> Sequence[str]:
        """Names of the inputs that are still missing."""

    def get_tensor_shape(self, name: str) -> Iterable[int]:
        """Of an output, once all inputs are set."""

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Enqueue one run."""


class Engine(Protocol):
    """`ICudaEngine`: a deserialised plan."""

    name: str
    num_io_tensors: int

    def get_tensor_name(self, index: int) -> str:
        """Of an input or output."""

    def get_tensor_mode(self, name: str) -> object:
        """A TensorIOMode: INPUT or OUTPUT."""

    def get_tensor_dtype(self, name: str) -> object:
        """A DataType."""

    def get_tensor_location(self, name: str) -> object:
        """A TensorLocation: DEVICE, or HOST where shapes depend on the values."""

    def create_execution_context(self, *config: Any) -> Context | None:
        """None for want of memory."""


class Runtime(Protocol):
    """`Runtime`: loads plans."""

    def deserialize_cuda_engine(self, serialized_engine: Any) -> Engine | None:
        """None after a message in the log."""


class Log(Protocol):
    """Our logger, as TensorRT calls it."""

    last_error: str


NOT_TOLD = "no reason was given"


def logger(trt: Any, hear: Callable[[str, str], None] = lambda *_: None) -> Log:
    """A logger for the module tensorrt or tensorrt_rtx that keeps the last error.

    Args:
        trt: the module.
        hear: called with the severity and the text of each message.
    """

    class LastError(trt.ILogger):  # type: ignore[misc]
        last_error = ""

        def log(self, severity: object, message: str) -> None:
            name = kind(severity)
            if name in ("ERROR", "INTERNAL_ERROR"):
                self.last_error = message
            hear(name, message)

    return LastError()


def kind(member: object) -> str:
    """The name of a member of one of TensorRT's enumerations: `TensorIOMode.INPUT` is INPUT."""
    return str(member).rpartition(".")[2]
