"""The roofline: how long a pass takes, from what it computes and moves and from what a device can do.

t = F / (P c) + B / (W m) + s + L l + R r + b (beams - 1)

F FLOPs at P FLOPs a second, of which a share c is reached, and B bytes at W bytes a second, of which a share
m is; s ms a pass, l ms for each of L layers, r ms for each of R reductions, b ms for each further beam. Both
ceilings are those of Williams, Waterman and Patterson (CACM 52(4), 2009), who take the larger of the two
times. Here they are added, as if nothing overlapped: that is at most twice as long, is what small products
on a CPU do, and is linear in 1/c and 1/m, so that measured times determine them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Work:
    """One pass through the decoder: a prefill, or a step of all beams."""

    linear_flops: float  # of products with weights
    attention_flops: float  # of products of activations
    bytes: float  # read and written
    layers: int
    reductions: int = 0
    beams: int = 1

    @property
    def flops(self) -> float:
        """All of them."""
        return self.linear_flops + self.attention_flops


@dataclass(frozen=True)
class Ceilings:
    """What a device does in a second at most."""

    linear_flops: float  # of products with weights as they are stored
    attention_flops: float  # of products of activations
    bytes: float


@dataclass(frozen=True)
class Efficiency:
    """What a device reaches of its ceilings, and what no ceiling explains."""

    compute: float  # share of the FLOPs a second
    memory: float  # share of the bytes a second
    pass_ms: float  # of every prefill and every step
    layer_ms: float
    reduction_ms: float
    beam_ms: float  # of every beam beyond the first: the search


NAMES = tuple(field.name for field in fields(Efficiency))


def compute_ms(work: Work, ceilings: Ceilings) -> float:
    """The time of the FLOPs at the ceiling, in ms."""
    seconds = work.linear_flops / ceilings.linear_flops + work.attention_flops / ceilings.attention_flops
    return 1e3 * seconds


def memory_ms(work: Work, ceilings: Ceilings) -> float:
    """The time of the bytes at the ceiling, in ms."""
    return 1e3 * work.bytes / ceilings.bytes


def fixed_ms(work: Work, efficiency: Efficiency) -> float:
    """The time that depends on neither, in ms."""
    return (
        efficiency.pass_ms
        + work.layers * efficiency.layer_ms
        + work.reductions * efficiency.reduction_ms
        + (work.beams - 1) * efficiency.beam_ms
    )


def pass_ms(work: Work, ceilings: Ceilings, efficiency: Efficiency) -> float:
    """The time of a pass in ms."""
    return (
        compute_ms(work, ceilings) / efficiency.compute
        + memory_ms(work, ceilings) / efficiency.memory
        + fixed_ms(work, efficiency)
    )
