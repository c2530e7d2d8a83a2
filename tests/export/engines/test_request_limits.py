"""What a checkpoint suggests for searches is lowered to what its engines take, and a note says so."""

from dataclasses import replace

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.engines.request_limits import within_engines
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import EngineOptions
from fastadasp.runtime import SearchOptions

OPTIONS = EngineOptions(max_beams=4, max_new_tokens=64)


def test_suggestions_beyond_the_engines_are_lowered_and_named(tiny_checkpoint):
    asked = SearchOptions(num_beams=9, max_new_tokens=512, repetition_penalty=1.1)
    model = replace(load_model(Checkpoint(tiny_checkpoint)), generation=asked)
    found = within_engines(model, OPTIONS)
    assert found.generation == SearchOptions(num_beams=4, max_new_tokens=64, repetition_penalty=1.1)
    beams, tokens = found.notes
    assert beams.startswith("num_beams 9 of the checkpoint is more than the engines take")
    assert tokens.endswith("have 64; build with --max-new-tokens 512 for more")


def test_suggestions_within_the_engines_stay(tiny_checkpoint):
    model = load_model(Checkpoint(tiny_checkpoint))
    for asked in (SearchOptions(), SearchOptions(num_beams=4, max_new_tokens=64)):
        model = replace(model, generation=asked)
        assert within_engines(model, OPTIONS) is model
