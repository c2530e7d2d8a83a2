"""What Triton launches has the blocks and the warps of what is compiled, for every type."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from fastadasp.plugins.causal_attention.launch import attention_mass  # noqa: E402
from fastadasp.plugins.compile import ARGUMENTS, KERNELS, block_and_warps  # noqa: E402
from fastadasp.plugins.evict_tokens.launch import evict_tokens  # noqa: E402
from fastadasp.plugins.merge_tokens.launch import merge_tokens  # noqa: E402

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Recorder:
    """A kernel that only remembers what it was launched with, by the names of its arguments."""

    def __init__(self, name: str, found: dict[str, dict[str, Any]]) -> None:
        self._name, self._found = name, found

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def run(*arguments: Any, num_warps: int) -> None:
            named = dict(zip(KERNELS[self._name].arguments.split(), arguments, strict=True))
            self._found[self._name] = {**named, "grid": grid, "num_warps": num_warps}

        return run


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("head_dim", "head_block"), [(40, 64), (64, 64), (80, 128)])
def test_kernels_are_launched_as_they_are_compiled(
    monkeypatch: pytest.MonkeyPatch, kind: str, head_dim: int, head_block: int
) -> None:
    found: dict[str, dict[str, Any]] = {}
    for name, source in KERNELS.items():
        module = import_module(f"fastadasp.plugins.{source.module}.kernel")
        monkeypatch.setattr(module, name, Recorder(name, found))
    hidden = torch.zeros(70, 600, dtype=TYPES[kind])
    query, key = (torch.zeros(*shape, dtype=TYPES[kind]) for shape in ((70, 2 * head_dim), (1, 70, head_dim)))
    attention_mass(query, key)
    merge_tokens(hidden, key, torch.ones(70), 1, 60, 20)
    evict_tokens(hidden, torch.ones(60), 1, 60, 20)
    assert set(found) == set(KERNELS)
    for name, launched in found.items():
        typed = any(ARGUMENTS.get(each) == "*T" for each in launched)
        block, warps = block_and_warps(KERNELS[name], kind if typed else "")
        assert launched["num_warps"] == warps
        assert launched.get("BLOCK", block) == block
        assert launched.get("BLOCK_D", head_block) == head_block
    block = block_and_warps(KERNELS["column_mass"], kind)[0]
    assert found["column_mass"]["grid"] == (-(-70 // block), 2)
    assert found["copy_rows"]["grid"] == (50, 2)
