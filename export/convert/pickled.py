"""The weights in a file of torch.save, mapped and not read; nothing that the file holds is ever run."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from ...profiles.errors import CheckpointError

Torch = Any  # a torch.Tensor

STATE = "model"  # where fairseq keeps the weights, beside its settings and the state of the optimiser
WRAPPER = "_checkpoint_wrapped_module."  # of modules whose activations were computed twice in training
FIRST_BYTES = b"PK"  # of a zip file, which alone can be mapped


def read_state(file: Path) -> dict[str, Torch]:
    """The tensors of a training checkpoint by name, over the mapped file.

    Settings may be an argparse.Namespace, as fairseq writes them; torch refuses every other object.

    Raises:
        CheckpointError: no such file, objects that are no plain data, or no tensors under "model".
    """
    import torch

    _check_place(file)
    try:
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise CheckpointError(
            f"{file}: it holds an object that is no plain data, and no code of a file is run: "
            f"{_reason(error)}; take a checkpoint with weights and settings alone"
        ) from None
    except (RuntimeError, ValueError, KeyError, EOFError) as error:
        raise CheckpointError(f"{file}: torch cannot read it ({_reason(error)}); copy it again") from None
    state = content.get(STATE) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(
            f"{file}: no weights under {STATE!r}; give the checkpoint of a fairseq training"
        )
    return dict(_plain(file, name, tensor) for name, tensor in state.items())


def _check_place(file: Path) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; give the training checkpoint, mostly final.pt")
    with file.open("rb") as stream:
        if stream.read(len(FIRST_BYTES)) != FIRST_BYTES:
            raise CheckpointError(
                f"{file}: not a file of torch.save since torch 1.6, which alone can be mapped; load it with "
                "an older torch and save it again"
            )


def _plain(file: Path, name: object, tensor: object) -> tuple[str, Torch]:
    """A name without wrappers, and its tensor."""
    import torch

    known = (torch.float32, torch.float16, torch.bfloat16)
    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.dtype not in known:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise CheckpointError(f"{file}: {name!r} is {kind}; float32, float16 and bfloat16 are read")
    return name.replace(WRAPPER, ""), tensor


def _reason(error: Exception) -> str:
    """The object that torch refuses, or its first sentence: it goes on with ways to load a file anyway."""
    words = " ".join(str(error).split())
    refused = re.search(r"GLOBAL (\S+)", words)
    return refused[1] if refused else words.split(". ")[0]
