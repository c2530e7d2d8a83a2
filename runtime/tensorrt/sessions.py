"""The sessions of one loaded artifact on TensorRT, over one stream of one GPU."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ...plugins.tensorrt_library import load_plugins
from ...profiles.errors import DependencyError, EngineError
from ..artifact.artifact import Artifact
from ..artifact.engines import (
    DECODE,
    ENCODER,
    PROMPT_ADAPTER,
    WAVE_ENCODER,
    EngineRecord,
    Engines,
    Machine,
    prefill_engine,
)
from .api import Engine, Runtime, logger
from .device import CudaDevice, Device
from .plan import check_machine, check_ratios, load_engine
from .session import TensorRTSession
from .steps import TensorRTStepSession


@dataclass(frozen=True)
class Platform:
    """What plans run on: TensorRT's Python module, and a GPU."""

    trt: Any
    device: Device


def open_platform(product: str) -> Platform:
    """The TensorRT product that plans were built with, and the GPU of this machine.

    Raises:
        DependencyError: the product or cuda-python is not installed.
        EngineError: there is no GPU.
    """
    try:
        trt = import_module(product)
    except ImportError as error:
        extra = product.replace("_", "-")
        raise DependencyError(
            f'{product} is not installed; `pip install "fastadasp-export[{extra}]"`, or use the backend '
            "onnxruntime"
        ) from error
    return Platform(trt, CudaDevice())


class TensorRTSessions:
    """Encoders and decode step at once, the other engines when they are first asked for."""

    planned = True
    unrolled = scores_all_tokens = False

    def __init__(self, artifact: Artifact, platform: Platform | None = None) -> None:
        """Check that the plans fit this machine, then load them.

        Args:
            artifact: with engines.
            platform: what they run on; opened as the manifest says if None.

        Raises:
            EngineError: no engines or no GPU, or they were built for another machine: the fields that differ.
            ArtifactError: a plan that is damaged.
            DependencyError: TensorRT, cuda-python or the plugins are missing or of another version.
        """
        self._artifact, self._engines = artifact, _engines(artifact)
        self._platform = platform or open_platform(self._engines.machine.product)
        trt, device = self._platform.trt, self._platform.device
        check_machine(self._engines.machine, Machine(trt.__name__, trt.__version__, device.sm))
        self._load_plugins()
        self._log = logger(trt)
        self._runtime: Runtime = trt.Runtime(self._log)
        self.encoder = self._load(ENCODER)
        self.wave_encoder = self._load(WAVE_ENCODER) if artifact.manifest.front_end.wave else None
        self.decode = self._load_decode()
        self._others: dict[str, TensorRTSession] = {}
        self._lock = threading.Lock()

    @property
    def steps(self) -> TensorRTStepSession:
        """The decode session: its steps take several requests."""
        return self.decode

    @property
    def limits(self) -> Engines:
        """The sizes that the engines were built for."""
        return self._engines

    @property
    def precision(self) -> str:
        """That of the engines."""
        return self._engines.precision

    @property
    def device(self) -> str:
        """The name of the GPU."""
        return self._platform.device.name

    def prompt_adapter(self) -> TensorRTSession:
        """The session of the prompt adapter."""
        return self._other(PROMPT_ADAPTER)

    def prefill(self, profile: str) -> TensorRTSession:
        """The prefill session of a profile of the artifact."""
        name = prefill_engine(profile)
        check_ratios(self._artifact.manifest.profiles[profile], self._engines.plans[name])
        return self._other(name)

    def _other(self, name: str) -> TensorRTSession:
        with self._lock:
            if name not in self._others:
                self._others[name] = self._load(name)
            return self._others[name]

    def _load_plugins(self) -> None:
        """The library that the plans were built with; code is loaded only where everything else fits."""
        if library := self._engines.plugin_library:
            with self._artifact.opened(library):
                path = self._artifact.path(library)
                load_plugins(path, self._platform.trt, self._engines.plugin_abi)

    def _load(self, name: str) -> TensorRTSession:
        engine, record = self._engine(name)
        return TensorRTSession(name, engine, record, self._platform.device, self._log)

    def _load_decode(self) -> TensorRTStepSession:
        engine, record = self._engine(DECODE)
        config = _runtime_config(engine, self._platform.trt)
        return TensorRTStepSession(DECODE, engine, record, self._platform.device, self._log, config)

    def _engine(self, name: str) -> tuple[Engine, EngineRecord]:
        record = self._engines.plans[name]
        with self._artifact.opened(record.file) as plan:
            return load_engine(plan, name, record, self._runtime, self._log), record


def _engines(artifact: Artifact) -> Engines:
    engines = artifact.manifest.engines
    if engines is None:
        raise EngineError(
            f"artifact {artifact.folder}: it has no engines; build it with --engine tensorrt-rtx, or use the "
            "backend onnxruntime"
        )
    return engines


def _runtime_config(engine: Any, trt: Any) -> Any:
    """For the decode step on TensorRT-RTX: no kernel for one shape, and no CUDA graph.

    Shapes stay for many steps, but each request has a prefix of its own length and each step inputs and
    outputs in other memory. What either would gain, and cost, no device has told.
    """
    if not hasattr(trt, "DynamicShapesKernelSpecializationStrategy"):
        return None
    config = engine.create_runtime_config()
    config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.NONE
    config.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
    return config
