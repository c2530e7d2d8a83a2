"""A plan becomes an engine, after everything that can be known before is known to fit."""

from __future__ import annotations

import mmap
from io import FileIO
from pathlib import PurePosixPath

from ...profiles.errors import EngineError
from ...profiles.flops import ResolvedProfile
from ..artifact.engines import EngineRecord, Machine, changed_place, plan_name
from .api import NOT_TOLD, Engine, Log, Runtime

FIELDS = {"product": "TensorRT product", "version": "its version", "sm": "compute capability (SM)"}


def check_machine(built_for: Machine, here: Machine) -> None:
    """Refuse plans that another product, version or GPU has to run.

    Raises:
        EngineError: every field that differs, with both values.
    """
    pairs = ((text, getattr(built_for, field), getattr(here, field)) for field, text in FIELDS.items())
    faults = [
        f"{text}: {wanted} is needed, {found} is here" for text, wanted, found in pairs if wanted != found
    ]
    if faults:
        raise EngineError(
            f"the engines of this artifact do not fit this machine: {'; '.join(faults)}; build them for it, "
            "or use the backend onnxruntime"
        )


def check_ratios(resolved: ResolvedProfile, record: EngineRecord) -> None:
    """Refuse a prefill plan that removes other shares of the rows than the profile of the artifact.

    Raises:
        EngineError: the profile, the layer and both shares.
    """
    found, wanted = record.layer_ratios, resolved.ratios
    if len(found) != len(wanted):
        raise EngineError(
            f"profile {resolved.name!r}: its plan has {len(found)} layers, the model {len(wanted)}; "
            "build the artifact again"
        )
    if change := changed_place(resolved, record.input_ratio, found):
        raise EngineError(
            f"profile {resolved.name!r}: {change.place} of its plan removes {change.found} of the rows, "
            f"the profile {change.wanted}; build the artifact again"
        )


def load_engine(plan: FileIO, name: str, record: EngineRecord, runtime: Runtime, log: Log) -> Engine:
    """Map a plan that was verified, and deserialise it.

    Args:
        plan: the open file.
        name: encoder, decode, prefill.<profile>.
        record: what the manifest says of it.
        runtime: TensorRT's runtime.
        log: its logger, with the last error at hand.

    Raises:
        EngineError: TensorRT refuses it, or it is the plan of another graph.
    """
    with mmap.mmap(plan.fileno(), 0, access=mmap.ACCESS_READ) as content:
        engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise EngineError(f"engine {name}: TensorRT cannot load it: {log.last_error or NOT_TOLD}")
    wanted = plan_name(name, record.graph_sha256)
    if engine.name != wanted:
        file = PurePosixPath(record.file).name
        raise EngineError(
            f"engine {name}: {file} is the plan of {engine.name!r}, not of {wanted!r}; build the artifact "
            "again"
        )
    return engine
