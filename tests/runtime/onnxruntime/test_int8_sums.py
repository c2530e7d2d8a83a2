"""CPUs that cut off sums of int8 get weights of uint8, by which nothing else changes."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from conftest import noise
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles import Profile, load_profile
from fastadasp.runtime import SpeechLM, environment
from fastadasp.runtime.onnxruntime import int8_sums
from fastadasp.runtime.onnxruntime.int8_sums import are_cut_off

PROFILES = load_profile("full"), Profile("h2o", "h2o", "constant", 0, ratio=Fraction(1, 2))
ROUNDING = 0.02  # more than int8 moves the rows by, of their size; sums that are cut off move them by 0.18


@pytest.fixture(autouse=True)
def uncached() -> Iterator[None]:
    are_cut_off.cache_clear()
    yield
    are_cut_off.cache_clear()


@pytest.mark.parametrize(
    ("machine", "flags", "cut_off"),
    [
        ("x86_64", "fpu avx2 fma", True),
        ("x86_64", "fpu avx2 avx512f avx512bw", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", "asimd", False),
        ("arm64", None, False),
    ],
)
def test_x86_without_vnni_cuts_off_sums(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str, flags: str | None, cut_off: bool
) -> None:
    info = tmp_path / "cpuinfo"
    if flags is not None:
        info.write_text(f"processor\t: 0\nflags\t\t: {flags}\nvmx flags\t: avx_vnni\n", "utf-8")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(environment, "CPU_INFO", info)
    assert are_cut_off() == cut_off


@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_weights_of_uint8_give_the_same_rows_and_answers(
    monkeypatch: pytest.MonkeyPatch,
    tiny_checkpoint: Path,
    tiny_artifact: Path,
    tmp_path: Path,
    quantize: str,
) -> None:
    """The copies work on any CPU: every weight is read by one node, as ONNX Runtime needs it."""
    build(tiny_checkpoint, tmp_path / "ART", BuildOptions(PROFILES, quantize=quantize))  # type: ignore[arg-type]
    asked = noise(2.0), 16000

    def heard(cut_off: Callable[[], bool]) -> tuple[np.ndarray, list[tuple[int, ...]]]:
        monkeypatch.setattr(int8_sums, "are_cut_off", cut_off)
        with SpeechLM.load(tmp_path / "ART", threads=1) as model:
            encoded = model.encode(asked)
            answers = [
                model.generate(encoded, "hello", profile=profile.name, max_new_tokens=8)
                for profile in PROFILES
            ]
            return encoded.rows, [answer.hypotheses[0].tokens for answer in answers]

    rows, tokens = heard(are_cut_off)
    copied, again = heard(lambda: True)
    np.testing.assert_allclose(copied, rows, rtol=0, atol=1e-5)
    assert again == tokens
    with SpeechLM.load(tiny_artifact, threads=1) as model:
        whole = model.encode(asked).rows
    assert np.linalg.norm(copied - whole) < ROUNDING * np.linalg.norm(whole)
