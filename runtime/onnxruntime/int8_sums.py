"""How ONNX Runtime adds up products of int8 on this CPU."""

from __future__ import annotations

import platform
from functools import cache

from ..environment import cpu_flags

X86 = ("x86_64", "AMD64")
VNNI = {"avx512_vnni", "avx_vnni"}  # as Linux names them


@cache
def are_cut_off() -> bool:
    """Whether kernels for unsigned by signed bytes add up two products in 16 bits, and cut off what is more.

    They do so on x86 without VNNI (`vpmaddubsw`), and those for unsigned bytes do not. A CPU of which the
    system does not tell is taken to have no VNNI.
    """
    return platform.machine() in X86 and VNNI.isdisjoint(cpu_flags())
