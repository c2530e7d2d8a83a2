"""The options of one run: a run of a request that may end early has its own, by which it is stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from ..cancellation.guard import current_guard

ERRORS = (  # they have no base of their own
    errors.EPFail,
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NoSuchFile,
    errors.NotImplemented,
    errors.RuntimeException,
)
SILENT = 4  # ONNX Runtime would print that a run was stopped

NOTHING: Mapping[str, str] = {}


def new_run_options(entries: Mapping[str, str] = NOTHING) -> Any:
    """Options with these entries of their configuration."""
    options = ort.RunOptions()
    for key, value in entries.items():
        options.add_run_config_entry(key, value)
    return options


@contextmanager
def stoppable(shared: Any, entries: Mapping[str, str] = NOTHING) -> Iterator[Any]:
    """Options for a run that begins now: `shared` ones, or some with those entries where it may be stopped.

    To stop a run is to set a flag in its options, so options that several runs share would stop all of them.

    Raises:
        RequestCancelled: the request ended, before the run or within; not the error that a stopped run gives.
    """
    if (guard := current_guard()) is None:
        yield shared
        return
    options = new_run_options(entries)
    options.log_severity_level = SILENT

    def stop() -> None:
        options.terminate = True

    with guard.stopping(stop):
        try:
            yield options
        except (*ERRORS, RuntimeError) as error:  # runs with a binding raise the latter
            if ended := guard.error():
                raise ended from error
            raise
