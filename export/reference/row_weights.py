"""How much attention the rows of an encoder get, from the probabilities of transformers' own last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.families.parts.reference import Floats, ModuleNames
from .layers import Model, Torch

PROJECTION = ".q_proj"  # of queries, which stands in the module of the attention


def row_weights(
    model: Model, encoder: ModuleNames, encode: Callable[[], Floats], size: int
) -> tuple[Floats, npt.NDArray[np.float32]]:
    """The audio tokens that `encode` gives, and what the encoder says of them: (tokens, 2).

    With A the largest probability of all heads, of each pair of rows, and P the means of its blocks of
    `size` x `size`: the mean of each column of P, and its diagonal (SA-MAP). Rows that are no part of a token
    are left out.

    Args:
        model: a model with eager attention.
        encoder: the names of its modules.
        encode: runs one window.
        size: rows of the encoder that make a token.
    """
    last = encoder.part("attn/q_proj", _num_layers(model, encoder) - 1).removesuffix(PROJECTION)
    with _probabilities(model.get_submodule(last)) as found:
        tokens = encode()
    (probabilities,) = found  # (1, heads, rows, rows)
    count = len(tokens)
    most = probabilities[0].amax(0)[: count * size, : count * size]
    pooled = most.reshape(count, size, count, size).mean((1, 3))
    return tokens, np.stack([pooled.mean(0), pooled.diagonal()], axis=1).astype(np.float32)


def _num_layers(model: Model, encoder: ModuleNames) -> int:
    parent = model.get_submodule(encoder.layer.format(i=0).rpartition(".")[0])
    return len(parent)


@contextmanager
def _probabilities(attention: Model) -> Iterator[list[Torch]]:
    """What a module of attention gives beside its output, while the context is open."""
    found: list[Torch] = []

    def record(_module: Any, _inputs: Any, outputs: tuple[Torch, Torch]) -> None:
        found.append(outputs[1])

    handle = attention.register_forward_hook(record)
    try:
        yield found
    finally:
        handle.remove()
