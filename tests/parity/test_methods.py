"""A method stands in every table, and a new one costs a row and a line for each of graphs and torch."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from fastadasp.export.graphs.reduction import REDUCERS, Reducer
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.export.reference.reduction import REDUCTIONS, SUMS, Reduction
from fastadasp.plugins.evict_cache.op import EVICT_CACHE
from fastadasp.plugins.evict_tokens.op import EVICT_TOKENS
from fastadasp.profiles.methods import METHODS, VARIANTS, Method, Removes, Sums
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM

from .conftest import REDUCED, REDUCING
from .models import AFTER, BEFORE, forced_logits, our_rows, reference_decoder, sound

ROOT = Path(__file__).parent.parent.parent
ATOL = 3e-4  # as in the tests of the methods that there are, the coarser of the two
TOKENS = [17, 91, 203]


def test_every_table_has_the_same_methods():
    assert list(REDUCERS) == list(REDUCTIONS) == REDUCING
    assert {method.name for method in VARIANTS.values()} == set(REDUCING)
    assert {method.sums for method in VARIANTS.values()} - {Sums.NONE} == set(SUMS)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_compared_with_the_reference(name):
    method = VARIANTS[name]
    compared = {(profile.schedule, profile.positions) for profile in REDUCED if profile.traits == method}
    positions = ("compact",) if method.is_of_caches else ("compact", "kept")
    assert compared == set(product(method.schedules, positions))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_documented(name):
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert any(name in page.read_text("utf-8") for page in pages)


def short_keys(axes):
    """The line in the graphs for the squared lengths of keys, over heads as well or for each of them."""

    def inputs(site):
        squares = site.g.op("ReduceSumSquare", site.keys, site.g.ints(*axes), keepdims=0)
        return [site.of_span(squares, axis=2 - len(axes))]

    return inputs


@pytest.fixture
def new_methods(monkeypatch):
    """Two that drop rows whose keys are shortest: what the layers hand on, and what each head caches."""
    rows, caches = "shortest_keys", "shortest_cached_keys"
    constant = {"removes": Removes.CACHED_ROWS, "schedules": ("constant",)}
    monkeypatch.setitem(METHODS, rows, Method(rows, "shortest keys"))
    monkeypatch.setitem(METHODS, caches, Method(caches, "shortest cached keys", **constant))
    monkeypatch.setitem(REDUCERS, rows, Reducer(EVICT_TOKENS, short_keys((0, 2))))
    monkeypatch.setitem(REDUCERS, caches, Reducer(EVICT_CACHE, short_keys((2,))))
    for name, axes in {rows: (0, 2), caches: (2,)}.items():
        torch_line = Reduction(lambda site, axes=axes: -site.of_span(site.keys.square().sum(axes)))
        monkeypatch.setitem(REDUCTIONS, name, torch_line)
    return rows, caches


def test_a_new_method_needs_no_other_place(new_methods, checkpoint, model, tmp_path):
    rows, caches = new_methods
    share = {"start_layer": 1, "ratio": Fraction(2, 7)}
    profiles = [Profile("caches", caches, "constant", **share)]
    for schedule, positions in product(METHODS[rows].schedules, ("compact", "kept")):
        profiles.append(Profile(f"{schedule}-{positions}", rows, schedule, positions=positions, **share))
    build(checkpoint, tmp_path / "artifact", BuildOptions(tuple(profiles), weights="copy"))
    speech_lm = SpeechLM.load(tmp_path / "artifact", threads=1)
    audio = our_rows(speech_lm, sound(32000))
    vocab = speech_lm.manifest.decoder.dims.vocab_size
    logits = []
    for profile in profiles:
        mine = speech_lm.decoder(profile.name, BEFORE, audio, AFTER)
        theirs = reference_decoder(model, speech_lm.manifest.profiles[profile.name], audio)
        logits.append(forced_logits(mine, TOKENS, vocab))
        np.testing.assert_allclose(logits[-1], forced_logits(theirs, TOKENS, vocab), atol=ATOL, rtol=0)
        assert mine.cache.prefix_lengths == theirs.prefix_lengths
    for i, one in enumerate(logits):  # so each of them has done something of its own
        assert all(np.abs(one - other).max() > 100 * ATOL for other in logits[:i])
