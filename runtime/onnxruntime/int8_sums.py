"""How ONNX Runtime adds up products of int8 on this CPU."""

from __future__ import annotations

import platform
import re
from functools import cache

from ..environment import CPU_INFO

X86 = ("x86_64", "AMD64")
VNNI = {"avx512_vnni", "avx_vnni"}  # as Linux names them


@cache
def are_cut_off() -> bool:
    """Whether kernels for unsigned by signed bytes add up two products in 16 bits, and cut off what is more.

    They do so on x86 without VNNI (`vpmaddubsw`), and those for unsigned bytes do not. A CPU of which the
    system does not tell is taken to have no VNNI.
    """
    if platform.machine() not in X86:
        return False
    try:
        flags = re.search(r"^flags\s*:(.*)", CPU_INFO.read_text("utf-8"), re.MULTILINE)
    except OSError:
        return True
    return flags is None or VNNI.isdisjoint(flags[1].split())
