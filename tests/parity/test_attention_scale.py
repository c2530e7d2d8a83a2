"""A model that scales its attention in another way: transformers' layers with that scale, and the graphs."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from fastadasp.export import pipeline
from fastadasp.export.model.families.family import load_model
from fastadasp.export.options import BuildOptions
from fastadasp.export.reference.model import load_reference
from fastadasp.profiles.profile import Profile
from fastadasp.runtime import SpeechLM

from .models import AFTER, BEFORE, forced_logits, our_rows, reference_decoder, sound

ATOL = 5e-4  # of logits whose scale is 10
SCALES = (1 / 64, 0.4)  # that of head_dim 16 is 1 / 4; the second is no power of 2
TOKENS = [17, 91, 203, 150]
HALF = {"schedule": "constant", "start_layer": 1, "ratio": Fraction(2, 7)}
PROFILES = (
    Profile("full", "full"),
    Profile("weighted_merge", "weighted_merge", **HALF),
    Profile("fastv-last-query", "fastv", fastv_score="last_query", **HALF),
    Profile("h2o", "h2o", **HALF),
)


@pytest.fixture(scope="module", params=SCALES, ids="scale {:.3g}".format)
def pair(request, checkpoint, tmp_path_factory):
    """The artifact and transformers' model, both with this scale."""

    def load_scaled(source):
        model = load_model(source)
        return replace(model, decoder=replace(model.decoder, attention_scale=request.param))

    folder = tmp_path_factory.mktemp("scaled") / "artifact"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_model", load_scaled)
        pipeline.build(checkpoint, folder, BuildOptions(PROFILES, weights="copy"))
    model = load_reference(checkpoint)
    for layer in model.get_decoder().layers:
        layer.self_attn.scaling = request.param
    return SpeechLM.load(folder, threads=1), model


@pytest.mark.parametrize("profile", [profile.name for profile in PROFILES])
def test_prefill_and_steps_agree(pair, profile, speech_lm, vocab_size):
    ours, theirs = pair
    rows = our_rows(ours, sound(40000, seed=4))
    decoder = ours.decoder(profile, BEFORE, rows, AFTER)
    reference = reference_decoder(theirs, ours.manifest.profiles[profile], rows)
    found, expected = (forced_logits(each, TOKENS, vocab_size) for each in (decoder, reference))
    assert decoder.cache.prefix_lengths == reference.prefix_lengths
    np.testing.assert_allclose(found, expected, atol=ATOL, rtol=0)
    usual = forced_logits(speech_lm.decoder("full", BEFORE, rows, AFTER), TOKENS, vocab_size)
    assert np.abs(found - usual).max() > 0.1, "the scale changes nothing"
