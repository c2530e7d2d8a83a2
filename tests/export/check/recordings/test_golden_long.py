"""Recordings of prompts beyond the training length: alpha, log-n, and rules that are nearly right."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from fastadasp.export.check.recordings.golden import ATOL_OF_64, check_golden
from fastadasp.export.cli import main
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.long_context import LongContext
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM
from golden_folder import CONSTANT, EDGES, HALF, LONG, Array, Rules, setting, write_golden

ATOL = 2e-4  # of logits whose scale is 10
SETTINGS = (
    setting("full"),
    HALF,
    CONSTANT,
    setting("merge_weighted", "decay", 1, 0.2),
    setting("kv_evict", "none", 1, 0.3),
    setting("fastv_evict", "none", 1, 0.4),
    setting("merge_ave", "none", 1, 0.3),
    setting("atome", "none", 1, 0.3),
)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden") / "long"
    write_golden(folder, SETTINGS, config=LONG, edges=EDGES)
    return folder


def change(folder: Path, part: str, i: int, **values: Any) -> None:
    path = folder / "golden.json"
    content = json.loads(path.read_text("utf-8"))
    content[part][i].update(values)
    path.write_text(json.dumps(content), "utf-8")


def test_every_setting_and_every_edge_agrees_with_what_has_no_casts(recorded: Path) -> None:
    results = check_golden(recorded, recorded)
    assert all(result.passed for result in results)
    assert len(results) == len(SETTINGS) + len(EDGES)
    assert {result.atol for result in results} == {ATOL_OF_64}
    assert max(result.logit_error for result in results) < ATOL


def test_another_alpha_and_another_model_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    write_golden(folder, SETTINGS[:2], config=LONG, edges=EDGES[:1])
    change(folder, "settings", 1, ntk_alpha=3)
    change(folder, "edge_settings", 0, seq_length=45, ntk_alpha=3)
    result = CliRunner().invoke(main, ["check", "--golden", str(folder)])
    lines = result.output.splitlines()
    assert result.exit_code == 1
    assert [line[:4] for line in lines[:-1]] == ["ok  ", "FAIL", "FAIL"]
    assert lines[1].endswith(", alpha of the rotary base differs")
    assert "full none start 6 ratio 0.0 seq_length 45 " in lines[2]
    assert "above 0.01" in lines[2]
    assert lines[3] == "1 of 3 settings agree: KV lengths and tokens identical, logits within 0.01"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompt_length": 42}, "edge setting 0: its prompt has 42 rows, 43 to 46 do"),
        ({"prompt_length": 47}, "edge setting 0: its prompt has 47 rows, 43 to 46 do"),
        ({"method": "dance"}, "edge setting 0: dance with schedule none and ratio 0.0 is not known"),
        ({"seq_length": 0}, "seq_length is 0, a whole number above 0 is expected"),
        ({"seq_length": 1}, "seq_length 1 is too small for use_logn_attn"),
        ({"use_logn_attn": "yes"}, "use_logn_attn is 'yes', true or false is expected"),
    ],
)
def test_an_edge_that_makes_no_sense_is_refused(tmp_path: Path, values: Any, message: str) -> None:
    write_golden(tmp_path / "golden", SETTINGS[:1], config=LONG, edges=EDGES[:1])
    change(tmp_path / "golden", "edge_settings", 0, **values)
    result = CliRunner().invoke(main, ["check", "--golden", str(tmp_path / "golden")])
    assert result.exit_code == 2
    assert message in result.output


# Rules that are nearly right: the recording must be far from each of them


@dataclass(frozen=True)
class Ntk(Rules):
    """One rule of alpha broken."""

    kind: str

    def alpha(self, trained: int, prompt: int, here: int, step: int | None) -> float:
        if self.kind == "from the rows of the layer":
            return self.of_ratio(here / trained)
        if self.kind == "again in each step":
            return self.of_ratio((prompt if step is None else step + 1) / trained)
        return super().alpha(trained, prompt, here, step)

    def of_ratio(self, ratio: float) -> float:
        power = math.log2(ratio) + 1
        steps = {"unrounded": power, "floor": math.floor(power), "none": -math.inf}
        right = (
            math.floor(math.log2(ratio)) + 2 if self.kind == "an exact multiple above" else math.ceil(power)
        )
        return float(max(2.0 ** steps.get(self.kind, right) - 1, 1.0))


@dataclass(frozen=True)
class LogN(Rules):
    """One rule of log-n broken."""

    kind: str

    def keys(self, prompt: int, here: int, new: int) -> Array:
        right, in_step = super().keys(prompt, here, new), new < here
        if self.kind == "without the row itself":
            return np.maximum(right - 1, 1)
        if self.kind == "of the position" or (self.kind == "of the position in steps" and in_step):
            steps = here - prompt if here >= prompt else 1  # a reduced layer: at least one step
            return right + (prompt - here if not in_step else max(0, prompt + steps - here))
        return right

    def factor(self, trained: int, keys: Array) -> Array:
        return np.ones(len(keys)) if self.kind == "none" else super().factor(trained, keys)

    def mass_of(self, scaled: Array, plain: Array) -> Array:
        return plain if self.kind == "not in the sums" else scaled


ALPHAS = ("none", "unrounded", "floor", "from the rows of the layer", "an exact multiple above")
FACTORS = (
    *("none", "of the position", "of the position in steps"),
    *("without the row itself", "not in the sums"),
)
WRONG = (*map(Ntk, (*ALPHAS, "again in each step")), *map(LogN, FACTORS))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: f"{type(wrong).__name__} {wrong.kind}")
def test_a_rule_that_is_nearly_right_is_far_from_the_recording(
    recorded: Path, wrong: Rules, tmp_path: Path
) -> None:
    write_golden(tmp_path / "wrong", SETTINGS, config=LONG, edges=EDGES, rules=wrong)
    right, found = (load_file(folder / "golden.safetensors") for folder in (recorded, tmp_path / "wrong"))
    names = [name for name in right if "logits64" in name]
    assert max(_distance(right[name], found[name]) for name in names) > 10 * ATOL_OF_64


def _distance(right: Array, found: Array) -> float:
    """The largest difference up to the first token that differs: behind it the two were fed other tokens."""
    other = np.flatnonzero(right.argmax(-1) != found.argmax(-1))
    rows = other[0] + 1 if len(other) else len(right)
    return float(np.abs(right - found)[:rows].max())


def test_a_short_request_between_the_steps_of_a_long_one_changes_nothing(
    recorded: Path, tmp_path: Path
) -> None:
    build(recorded, tmp_path / "ART", BuildOptions((Profile("full", "full"),), weights="copy"))
    model, rng = SpeechLM.load(tmp_path / "ART"), np.random.default_rng(0)
    rows = rng.standard_normal((40, LONG["hidden_size"])).astype(np.float32)

    def answer(between: Callable[[], object]) -> Array:
        decoder = model.decoder("full", np.array([1, 2]), rows, np.array([3]))
        decoder.start(60)
        between()
        return decoder.step(np.array([7]), np.array([0]), 60).logits

    short = model.decoder("full", np.array([1]), rows[:4], np.array([3]))
    np.testing.assert_array_equal(answer(lambda: short.start(60)), answer(lambda: None))


# Alpha in integers


def test_alpha_in_integers_is_the_published_rule() -> None:
    for trained in (2, 3, 48, 64, 299, 512, 1000, 2048):
        context = LongContext(trained, dynamic_ntk=True, log_n=False)
        for rows in (*range(1, 700), 2047, 2048, 2049, 4096, 4097, 8191, 8192, 8193, 32767):
            expected = max(2 ** math.ceil(math.log2(rows / trained) + 1) - 1, 1)
            assert context.rope_alpha(rows) == expected, (trained, rows)


def test_a_model_without_dynamic_ntk_keeps_its_base() -> None:
    assert LongContext(48, dynamic_ntk=False, log_n=True).rope_alpha(4000) == 1
