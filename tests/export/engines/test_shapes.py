"""Shapes of an engine follow from the front end: what makes a token, and whether windows are full."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.engines.shapes import encoder_profile, prefill_profile
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import EngineOptions


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_model(Checkpoint(tiny_checkpoint))


def changed(model, full_windows=False, **fields):
    config = replace(model.front_end.log_mel, full_windows=full_windows)
    return replace(model, front_end=replace(model.front_end, log_mel=config, **fields))


@pytest.mark.parametrize(("per_token", "frames"), [(2, 4), (4, 8), (5, 10)])
def test_the_shortest_window_of_an_encoder_gives_one_token(model, per_token, frames):
    shapes = encoder_profile(changed(model, rows_per_token=per_token), EngineOptions()).shapes
    assert shapes["mel"] == ((128, frames), (128, 200), (128, 200))
    assert shapes["encoder_rows"] == ((per_token,), (100,), (100,))


def test_full_windows_have_one_shape(model):
    shapes = encoder_profile(changed(model, full_windows=True, rows_per_token=4), EngineOptions()).shapes
    assert shapes["mel"] == ((128, 200),) * 3
    assert shapes["encoder_rows"] == ((100,),) * 3


def test_the_shortest_prompt_has_one_token_and_the_rows_around_it(model):
    shapes = prefill_profile(changed(model, bos_rows=2, eos_rows=1), 50, EngineOptions()).shapes
    assert [sizes[0] for sizes in shapes["audio_embeds"]] == [4, 25, 50]
