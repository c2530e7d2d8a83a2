"""What the demo model is trained on: answers, packed batches, weights of another format."""

from __future__ import annotations

import struct
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import features, voices, whisper_weights
from training.batches import AFTER, BEFORE, IGNORED, draw_batch, make_batch
from training.clips import Clip
from training.loop import STAGES, Stage, Trainer, input_rows
from training.model import HIDDEN, audio_encoder, untrained_model
from training.tasks import ASKED_BY, Facts, questions
from training.vocabulary import (
    DAYS,
    FRENCH,
    GERMAN,
    ID,
    MONTHS,
    ROOMS,
    SPECIAL,
    STYLES,
    TOKENS,
    TOPICS,
    WORDS,
    ids,
    tokenizer,
)

facts = st.builds(
    Facts,
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(tuple),
    topic=st.sampled_from(TOPICS),
    room=st.sampled_from(ROOMS),
    style=st.sampled_from((*STYLES, None)),
)


class FewFeatures:
    """Random encoder output of clips of several lengths."""

    def __init__(self, lengths, facts):
        draw = np.random.default_rng(0)
        self._rows = [draw.normal(size=(n, 384)).astype(np.float32) for n in lengths]
        self.facts = facts

    def __len__(self):
        return len(self._rows)

    def length(self, clip):
        return len(self._rows[clip])

    def rows(self, clip):
        return self._rows[clip]


@settings(max_examples=60)
@given(facts, st.integers(0, 2**32 - 1))
def test_every_question_has_one_answer_in_words_of_the_vocabulary(facts, seed):
    for asked in questions(facts, np.random.default_rng(seed)):
        first, *rest = asked.prompt.split()
        assert first in ASKED_BY
        assert all(word in ID and word not in SPECIAL for word in (*rest, *asked.answer.split()))
        if rest[:1] == ["after"]:
            assert facts.words.count(rest[1]) == 1
            assert facts.words[facts.words.index(rest[1]) + 1] == asked.answer
        if rest in (["day"], ["month"]):
            members = DAYS if rest == ["day"] else MONTHS
            assert [word for word in facts.words if word in members] == [asked.answer]


def test_translations_are_one_to_one():
    for table in (FRENCH, GERMAN):
        assert set(table) == set(WORDS)
        assert len(set(table.values())) == len(WORDS)


def test_the_tokenizer_reads_every_token_as_itself():
    made = tokenizer()
    assert made.encode(" ".join(TOKENS), add_special_tokens=False).ids == list(range(len(TOKENS)))


def test_questions_packed_behind_one_audio_are_read_as_if_each_stood_alone():
    """The row of a question in a packed batch has the hidden state that it has by itself."""
    words = (("march", "two", "sunday", "two"), ("nine", "april"))
    features = FewFeatures((9, 14), [Facts(said, "words", "quiet", "sad") for said in words])
    model = untrained_model(0).eval()
    body, project = model.model.language_model, model.model.multi_modal_projector
    batch = make_batch(features, (0, 1), np.random.default_rng(3))
    with torch.inference_mode():
        x = input_rows(body.embed_tokens.weight, batch, project(batch.audio))
        packed = body(
            inputs_embeds=x, attention_mask=batch.mask, position_ids=batch.positions
        ).last_hidden_state
        for clip, rows in enumerate(features._rows):
            audio = project(torch.from_numpy(rows))
            before, after = (body.embed_tokens.weight[list(part)] for part in (BEFORE, AFTER))
            for segment in range(1, int(batch.segments[clip].max()) + 1):
                at = (batch.segments[clip] == segment).nonzero()[:, 0]
                text = body.embed_tokens.weight[batch.tokens[clip, at]]
                alone = torch.cat([before, audio, after, text])[None]
                expected = body(inputs_embeds=alone).last_hidden_state[0, -len(at) :]
                torch.testing.assert_close(packed[clip, at], expected, atol=2e-5, rtol=1e-4)


def test_targets_are_the_answers_and_their_ends():
    features = FewFeatures((6,), [Facts(("one", "may"), "dates", "noisy", None)])
    batch = make_batch(features, (0,), np.random.default_rng(0))
    said = [TOKENS[token] for token in batch.targets[0].tolist() if token != IGNORED]
    assert said[:3] == ["one", "may", "<eos>"]
    assert ((batch.targets == IGNORED) == (batch.weights == 0)).all()
    assert batch.words == [ids("one may")]


@pytest.mark.parametrize("alike", [False, True])
def test_long_clips_come_more_often_where_all_lengths_are_alike(alike):
    lengths = [10] * 40 + [20, 30, 40, 50, 60, 70, 80, 90]
    features = FewFeatures(lengths, [Facts(("one", "may"), "dates", "noisy", None)] * len(lengths))
    order, drawn = list(range(len(lengths))), []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        batch = draw_batch(features, order, rng, 200, 70, all_lengths_alike=alike)
        assert sum(batch.audio_lengths) <= 200
        drawn.append(max(batch.audio_lengths))
    long = sum(length > 35 for length in drawn) / len(drawn)
    assert long > 0.4 if alike else long < 0.3


def test_stages_follow_each_other_and_end_at_the_longest_clip():
    assert [stage.begin for stage in STAGES] == [0, STAGES[0].steps]
    assert all(stage.growth < 1 for stage in STAGES)


def test_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path):
    features = FewFeatures((60, 70, 80), [Facts(("one", "may"), "dates", "noisy", "sad")] * 3)

    def trainer():
        torch.manual_seed(5)
        model = untrained_model(1).requires_grad_(False)
        return Trainer(model, torch.nn.Linear(HIDDEN, len(TOKENS)), features, stage, seed=3)

    def stop():
        raise KeyboardInterrupt

    stage = Stage("few", ("few",), 4, 10, 1e-3)
    whole, stopped, again = trainer(), trainer(), trainer()
    list(whole.run(tmp_path / "whole.pt"))
    stopped.save = lambda path: (Trainer.save(stopped, path), stop())
    with pytest.raises(KeyboardInterrupt):
        list(stopped.run(tmp_path / "stopped.pt", every=2))
    again.load(tmp_path / "stopped.pt")
    assert again.step == 2
    list(again.run(tmp_path / "again.pt"))
    for one, other in zip(whole.body.parameters(), again.body.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(find_spec("piper") is None, reason="piper is in the extra train")
def test_piper_says_the_same_under_the_same_seed():
    said = [voices.piper(1.0, seed)("three seven") for seed in (5, 5, 6)]
    np.testing.assert_array_equal(said[0], said[1])
    assert not np.array_equal(said[0], said[2])


def test_speech_and_features_whose_text_the_disk_has_no_room_for_are_missing(
    tmp_path, monkeypatch, full_disk
):
    """A file beside them says that they are whole: it is there as a whole, or not at all."""
    click = np.sin(np.arange(20)).astype(np.float32)
    monkeypatch.setattr(voices, "voices", lambda seed: [voices.Voice("click", "sad", lambda text: click)])
    monkeypatch.setattr(voices, "_require", lambda *programs: None)
    monkeypatch.setattr(features, "CHUNK", 1)
    monkeypatch.setattr(features, "_encoder", lambda: audio_encoder(untrained_model(0)).eval())
    said = Clip(np.resize(click, 16000), Facts(("march",) * 9000, "words", "quiet", "sad"), 0)
    monkeypatch.setattr(features, "compose", lambda *drawn: said)
    with full_disk(4000), pytest.raises(OSError, match="too large"):
        voices.record(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["speech.npy"]
    voices.record(tmp_path)
    with full_disk(40000), pytest.raises(OSError, match="too large"):
        features._chunk(tmp_path, "dev", 0, True, (2.0, 10.0), 0)
    assert {path.name for path in tmp_path.glob("dev*")} == {"dev-0000.npy"}


def test_variables_of_a_ctranslate2_file_are_read_as_written(tmp_path):
    """Version 6, a name, a revision, then name, shape, type and bytes of each variable."""
    values = {"a/weight": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.array([7], np.int8)}

    def text(value):
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, len(values))
    for name, value in values.items():
        kind = next(code for code, dtype in whisper_weights.DTYPES.items() if dtype == value.dtype)
        shape = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        content += text(name) + shape + struct.pack("<BI", kind, value.nbytes) + value.tobytes()
    (tmp_path / "model.bin").write_bytes(content)
    read = whisper_weights.read_variables(tmp_path / "model.bin")
    assert list(read) == list(values)
    for name, value in values.items():
        np.testing.assert_array_equal(read[name], value)
