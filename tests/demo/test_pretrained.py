"""How the second model is made: texts, clips, batches, training that goes on, its checkpoint."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import train_pretrained
from fastadasp.runtime.audio.log_mel import log_mel_windows
from pretrained import checkpoint, features, packages, speech, text
from pretrained.batches import IGNORED, Clip, Order, make_batch, read_clips
from pretrained.decoder import Decoder, folded
from pretrained.encoder import CONFIG, LOG_MEL, Upper, lower_rows, untrained_encoder
from pretrained.language_model import END, PROMPT, RENAMED, START, Language, Sizes, renamed
from pretrained.loop import STOP, Stage, StoppedError, Trainer, asked_to_stop, input_rows
from pretrained.model import Model
from processes import is_alive

SIZES = Sizes(2, 32, 4, 2, 8, 48, 300, max_positions=512)
WIDTH = 16
ENCODER = {
    **CONFIG,
    "d_model": WIDTH,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
}
STAGE = Stage(
    "few", 4, {"encoder": 1e-3, "projector": 1e-2, "ctc": 1e-2, "lora": 1e-2, "norms": 1e-3}, ctc=(1, 1, 1)
)
TEXTS = ("the house is open", "please turn on the lamp in the hall", "a list of names")
RECORDS = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from train_pretrained import alone
from training.processes import two_processes
with alone(Path(sys.argv[2])), two_processes() as pool:
    workers = {pool.submit(os.getpid).result() for _ in range(4)}
    pool.map(time.sleep, (60, 60))
    print(*workers, flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level tokens, those of notebooks renamed to what stands around audio."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        [f" {line}" for line in TEXTS],
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=["<|endoftext|>", START, END, *RENAMED],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return Tokenizer.from_str(json.dumps(renamed(json.loads(made.to_str()))))


@pytest.fixture
def language(tokenizer):
    return Language(tokenizer)


@pytest.fixture
def clips(language, tmp_path):
    """Random rows of three clips, in a file as they are cached."""
    draw, entries, at = np.random.default_rng(0), [], 0
    with (tmp_path / "train-0000.f16").open("wb") as file:
        for line, rows in zip(TEXTS, (61, 90, 77), strict=True):
            file.write(draw.normal(size=(rows, WIDTH)).astype(np.float16).tobytes())
            entries.append({"text": line, "voice": "one", "at": at, "rows": rows})
            at += rows
    (tmp_path / "train-0000.json").write_text(json.dumps(entries), "utf-8")
    return read_clips(tmp_path, "train", language)


def language_weights(seed=0):
    """Random weights that bfloat16 holds, by transformers' names."""
    torch.manual_seed(seed)
    hidden, kv, wide = SIZES.hidden_size, SIZES.num_kv_heads * SIZES.head_dim, SIZES.intermediate_size
    shapes = {"model.embed_tokens": (SIZES.vocab_size, hidden), "model.norm": (hidden,)}
    for i in range(SIZES.num_layers):
        attention = {"q": (hidden, hidden), "k": (kv, hidden), "v": (kv, hidden), "o": (hidden, hidden)}
        mlp = {"gate": (wide, hidden), "up": (wide, hidden), "down": (hidden, wide)}
        base = f"model.layers.{i}"
        shapes |= {f"{base}.self_attn.{name}_proj": shape for name, shape in attention.items()}
        shapes |= {f"{base}.mlp.{name}_proj": shape for name, shape in mlp.items()}
        shapes |= {f"{base}.{name}_layernorm": (hidden,) for name in ("input", "post_attention")}
    return {
        f"{name}.weight": (torch.randn(shape) * 0.2 + (len(shape) == 1)).bfloat16().float()
        for name, shape in shapes.items()
    }


def new_model(language, seed=0):
    torch.manual_seed(seed)
    spoken = sorted({token for line in TEXTS for token in language.transcript(line)})
    return Model(untrained_encoder(ENCODER), language_weights(), SIZES, spoken, rank=4)


def trained_model(language, clips):
    model = new_model(language)
    trainer = Trainer(model, language, STAGE, clips, clips)
    for _ in range(3):
        trainer._learn()
    return model


def test_a_gloss_gives_its_definition_and_examples_but_none_that_it_warns_of(tmp_path):
    lines = [
        "  1 This software is licensed",
        '1 | (biology) the act of opening; "she was opening the door"; "NATO"',
        "2 | offensive name for a person",
        "3 | too short",
        "4 | made in 1999 by the two of them",
    ]
    (tmp_path / "data.noun").write_text("\n".join(lines), "utf-8")
    found = text._of_wordnet(tmp_path / "data.noun")
    assert sorted(found) == ["she was opening the door", "the act of opening"]


def test_rare_words_are_in_few_sentences():
    common = [f"the {word} house is open" for word in ("old", "new")] * text.ENOUGH
    rare = [f"the xylophone number {'i' * n} is here" for n in range(1, 15)]
    kept = text.few_rare(common + rare, np.random.default_rng(0))
    assert len(kept) == len(common) + round(len(common) * 0.15 / 0.85)


def test_requests_are_words_of_letters_and_differ():
    draw = np.random.default_rng(0)
    made = {text.request(draw) for _ in range(300)}
    assert len(made) > 200
    assert all(text.SPELLED.fullmatch(line) for line in made)


def test_weights_of_another_version_are_refused(tmp_path):
    (tmp_path / "weights").write_bytes(b"other")
    with pytest.raises(SystemExit, match="SHA-256"):
        packages.check({tmp_path / "weights": "0" * 64})


def test_recordings_become_clips_alone_and_joined_and_their_features(tmp_path, monkeypatch, language):
    """Two files with one voice each: the same again when it is made again, and what was there is kept."""
    tone = np.sin(np.arange(8000) * 0.1).astype(np.float32)
    monkeypatch.setattr(speech, "_voice", lambda draw, held_out: ("tone", lambda line: tone))
    monkeypatch.setattr(features, "_encoder", lambda whisper: untrained_encoder(ENCODER))
    monkeypatch.setattr(features, "LONG_CHANCES", (1.0,))
    (tmp_path / "speech").mkdir()
    (tmp_path / "features").mkdir()
    speech._record_file(tmp_path / "speech", "train", 0, False, 0, TEXTS)
    features._cache_file(tmp_path, (), 0, "train-0000")
    made = read_clips(tmp_path / "features", "train", language)
    assert [clip.text for clip in made[:3]] == list(TEXTS)
    assert len(made) == 4
    assert len(made[3].text.split()) > max(len(line.split()) for line in TEXTS)
    assert made[3].read(WIDTH).shape == (made[3].rows, WIDTH)
    features.cache(tmp_path, "train", (), 0, lambda: False)  # would fail without weights if it encoded again


def test_speech_and_features_whose_text_the_disk_has_no_room_for_are_missing(
    tmp_path, monkeypatch, full_disk
):
    """A file beside them says that they are whole: it is there as a whole, or not at all."""
    click = np.sin(np.arange(100)).astype(np.float32)
    monkeypatch.setattr(speech, "_voice", lambda draw, held_out: ("click", lambda line: click))
    monkeypatch.setattr(features, "_encoder", lambda whisper: untrained_encoder(ENCODER))
    (tmp_path / "speech").mkdir()
    (tmp_path / "features").mkdir()
    texts = ["the house is open " * 3000]
    with full_disk(40000), pytest.raises(OSError, match="too large"):
        speech._record_file(tmp_path / "speech", "train", 0, False, 0, texts)
    assert [path.name for path in (tmp_path / "speech").iterdir()] == ["train-0000.npy"]
    speech._record_file(tmp_path / "speech", "train", 0, False, 0, texts)
    with full_disk(40000), pytest.raises(OSError, match="too large"):
        features._cache_file(tmp_path, (), 0, "train-0000")
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["train-0000.f16"]


def test_an_epoch_has_every_clip_once_in_batches_of_a_size():
    lengths = np.random.default_rng(1).integers(10, 90, 400).tolist()
    order = Order(lengths, 300, seed=3)
    epochs: list[list[int]] = [[], []]
    step = 0
    while len(epochs[1]) < len(lengths):
        batch = order[step]
        assert len(batch) * max(lengths[i] for i in batch) <= 300
        epochs[len(epochs[0]) == len(lengths)] += batch
        step += 1
    assert [sorted(epoch) for epoch in epochs] == [list(range(400))] * 2
    assert epochs[0] != epochs[1]
    assert Order(lengths, 300, seed=3)[step - 1] == order[step - 1]


def test_targets_follow_the_prompt_and_end_with_the_end(clips, language):
    batch = make_batch(clips, language, WIDTH)
    for i, clip in enumerate(clips):
        asked = (batch.targets[i] != IGNORED).nonzero()[:, 0]
        assert batch.targets[i, asked].tolist() == [*clip.tokens, language.end]
        assert batch.tokens[i, asked[1:]].tolist() == clip.tokens
        assert batch.tokens[i, asked[0]] == language.after[-1]
        assert asked[0] == len(language.before) + clip.audio + len(language.after) - 1


def test_gaps_leave_out_positions_between_audio_rows_alone(clips, language):
    batch = make_batch(clips, language, WIDTH, np.random.default_rng(0), gaps=0.5)
    for i, clip in enumerate(clips):
        steps = batch.positions[i].diff()
        first, behind = len(language.before), len(language.before) + clip.audio
        assert (steps[: first - 1] == 1).all()
        assert (steps[behind:] == 1).all()
        assert steps[first - 1 : behind].max() > 1


def test_training_that_was_stopped_goes_on_to_the_same_weights(clips, language, tmp_path):
    torch.set_num_threads(1)

    def trainer():
        return Trainer(new_model(language), language, STAGE, clips, clips)

    whole, stopped, again = trainer(), trainer(), trainer()
    whole.run(tmp_path / "whole.pt", tmp_path / "log.jsonl")
    with pytest.raises(StoppedError):
        stopped.run(tmp_path / "half.pt", tmp_path / "log.jsonl", lambda: stopped.step == 2)
    again.load(tmp_path / "half.pt")
    assert again.step == 2
    again.run(tmp_path / "half.pt", tmp_path / "log.jsonl")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, again.model.state_dict()[name]), name
    assert not torch.equal(whole.model.decoder.layers[0].qkv.up, torch.zeros(()))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    fields = {"stage", "seed", "step", "time", "cpu_seconds", "peak_gb", "answers", "ctc", "size"}
    assert fields <= lines[0].keys()


def test_a_checkpoint_of_other_settings_is_refused(clips, language, tmp_path):
    Trainer(new_model(language), language, STAGE, clips, clips).save(tmp_path / "one.pt")
    other = Trainer(new_model(language), language, replace(STAGE, seed=7), clips, clips)
    with pytest.raises(SystemExit, match="other settings"):
        other.load(tmp_path / "one.pt")


def test_a_stage_hears_other_clips_than_the_one_before_it(clips, language, monkeypatch):
    heard = []

    def batch(trainer, chosen, draw, make=Trainer._batch):
        heard.append({id(clip) for clip in chosen})
        return make(trainer, chosen, draw)

    monkeypatch.setattr(Trainer, "_batch", batch)
    for stage in (STAGE, replace(STAGE, first=1)):
        trainer = Trainer(new_model(language), language, stage, clips, clips)
        trainer._order = [[0], [1], [2]]
        trainer._learn()
    assert heard == [{id(clips[0])}, {id(clips[1])}]
    for run in (train_pretrained.Run(), train_pretrained.Run(with_ctc=False)):
        before, last = run.stages[-2:]
        assert last.first == before.steps
        assert not {*before.places} & {*last.places}


def test_seeds_hear_the_same_clips_in_another_order():
    places = [train_pretrained.Run(seed).stages[-1].places for seed in (0, 1, 2)]
    assert places[0] == sorted(places[0]) == sorted(places[1]) == sorted(places[2])
    assert len({*map(tuple, places)}) == len(places)


def test_a_file_named_stop_ends_the_training(tmp_path):
    with asked_to_stop(tmp_path) as stop:
        assert not stop()
        (tmp_path / STOP).touch()
        assert stop()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_a_training_that_is_asked_to_stop_records_no_more_than_it_has_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "BLOCK", 1)
    monkeypatch.setattr(speech, "BLOCKS", 1)
    texts = TEXTS * 10  # one a file
    with pytest.raises(StoppedError):
        speech.record(tmp_path, "test", texts, 1, lambda: True, held_out=True)
    assert 1 <= len([*tmp_path.glob("*.json")]) < len(texts) // 2


def test_a_training_that_is_asked_to_stop_encodes_no_more_than_it_has_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "_cache_file", print)  # a process can import it, and it needs no weights
    (tmp_path / "speech").mkdir()
    for number in range(3):
        (tmp_path / "speech" / f"train-{number:04d}.json").write_text("[]", "utf-8")
    with pytest.raises(StoppedError):
        features.cache(tmp_path, "train", (), 0, lambda: True)


def test_a_work_folder_is_held_by_one_training(tmp_path):
    with (
        train_pretrained.alone(tmp_path / "work"),
        pytest.raises(SystemExit, match="another training"),
        train_pretrained.alone(tmp_path / "work"),
    ):
        pass
    with train_pretrained.alone(tmp_path / "work"):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_records_for_a_killed_training_does_not_hold_its_folder_and_ends(tmp_path):
    command = [sys.executable, "-c", RECORDS, Path(train_pretrained.__file__).parent, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as training:
        workers = [int(word) for word in training.stdout.readline().split()]
        training.kill()
    assert workers
    with train_pretrained.alone(tmp_path):
        deadline = time.monotonic() + 30
        while any(map(is_alive, workers)):
            assert time.monotonic() < deadline, "they have outlived the training"
            time.sleep(0.05)


def test_runs_differ_in_their_stages_and_share_those_that_they_can():
    stages = {
        run.name: [stage.name for stage in run.stages]
        for run in (
            train_pretrained.Run(),
            train_pretrained.Run(seed=1),
            train_pretrained.Run(with_gaps=True),
            train_pretrained.Run(with_ctc=False),
            train_pretrained.Run(cool_now=True),
        )
    }
    assert stages == {
        "seed-0": ["ctc", "steady", "seed-0"],
        "seed-1": ["ctc", "steady", "seed-1"],
        "seed-0-gaps": ["ctc", "steady", "seed-0-gaps"],
        "seed-0-without-ctc": ["steady-without-ctc", "seed-0-without-ctc"],
        "seed-0-cool-now": ["ctc", "steady", "seed-0-cool-now"],
    }
    control = train_pretrained.Run(with_ctc=False).stages
    assert not any(stage.ctc_weight(step) for stage in control for step in range(0, stage.steps, 50))


def test_a_middle_stage_that_has_not_begun_is_not_cooled(tmp_path):
    run = train_pretrained.Run(with_ctc=False, cool_now=True)
    with pytest.raises(SystemExit, match=r"steady-without-ctc\.pt is not there"):
        run.check(tmp_path)
    (tmp_path / "steady-without-ctc.pt").touch()
    run.check(tmp_path)


@pytest.fixture
def learn(clips, language, tmp_path, monkeypatch):
    """The stages of a run, of a few steps each, until so many steps are made."""
    ctc = replace(STAGE, name="ctc", steps=1, answers=False)
    steady = replace(STAGE, name="steady", ctc=(0, 0, 0))
    for name, stage in {"CTC": ctc, "STEADY": steady, "COOLING": replace(steady, steps=2)}.items():
        monkeypatch.setattr(train_pretrained, name, stage)

    def learned(run, steps=99):
        made = itertools.count(1)
        train_pretrained.learn(
            new_model(language),
            language,
            run,
            tmp_path,
            lambda files: clips,
            clips,
            lambda: next(made) == steps,
        )

    return learned


def test_a_middle_stage_that_went_on_is_not_cooled_into_the_model_of_an_earlier_step(learn, tmp_path):
    cooled = tmp_path / "seed-0-cool-now.pt"
    with pytest.raises(StoppedError):
        learn(train_pretrained.Run(), 2)
    learn(train_pretrained.Run(cool_now=True))
    learn(train_pretrained.Run(cool_now=True))  # is done
    with pytest.raises(StoppedError):
        learn(train_pretrained.Run(), 2)
    with pytest.raises(SystemExit, match=r"cool-now\.pt: began from step 1 .* at step 3 now; remove it"):
        learn(train_pretrained.Run(cool_now=True))
    cooled.unlink()
    learn(train_pretrained.Run(cool_now=True))
    assert torch.load(cooled, weights_only=True)["step"] == 2


def test_checkpoints_that_do_not_say_where_they_began_are_done(learn, tmp_path):
    learn(train_pretrained.Run())
    for name in ("ctc", "steady", "seed-0"):
        state = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        del state["after"]
        torch.save(state, tmp_path / f"{name}.pt")
    learn(train_pretrained.Run(), 1)  # would be stopped at its first step


@torch.inference_mode()
def test_upper_and_lower_layers_are_the_encoder_under_its_mask():
    encoder = untrained_encoder(ENCODER)
    samples = np.random.default_rng(0).normal(size=20000).astype(np.float32) * 0.1
    window = next(log_mel_windows(samples, LOG_MEL))
    lower = lower_rows(encoder, torch.from_numpy(window.mel), window.encoder_rows)
    behind = 100 + len(lower) % 2
    padded = torch.nn.functional.pad(lower, (0, 0, 0, behind), value=3.0)[None]
    found = Upper(encoder)(padded, torch.tensor([len(lower)]))[0, : len(lower) // 2]
    x = lower[None]
    for layer in encoder.layers[-2:]:
        x = layer(x, None)
    expected = encoder.layer_norm(encoder.avg_pooler(x.transpose(1, 2)).transpose(1, 2))[0]
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)  # autocast to bfloat16


def test_what_is_folded_in_computes_what_was_trained(clips, language):
    """The decoder of the checkpoint gives the hidden states of the trained one, in float32."""
    model = trained_model(language, clips)
    special = {"audio": language.audio, "end": language.end}
    whole = checkpoint.whole_model(model, untrained_encoder(ENCODER), language_weights(), SIZES, special)
    batch = make_batch(clips, language, WIDTH)
    with torch.inference_mode():
        audio = model.audio(batch.rows, batch.row_lengths)
        x = input_rows(model.decoder.embedding.float(), batch, audio)
        found = model.decoder(x, batch.positions)
        expected = whole.model.language_model(inputs_embeds=x).last_hidden_state
        plain = Decoder(language_weights(), SIZES, 4)(x, batch.positions)
        again = Decoder(folded(model.decoder, language_weights()), SIZES, 4)(x, batch.positions)
    first = min(clip.audio + len(clip.tokens) for clip in clips)
    torch.testing.assert_close(found[:, :first], expected[:, :first], atol=2e-5, rtol=1e-4)
    assert (plain - found).abs().max() > 0.05  # what was learnt counts
    torch.testing.assert_close(again, found, atol=0.1, rtol=0.1)  # folded into bfloat16


def test_the_checkpoint_is_built_and_answers_as_transformers_does(clips, language, tokenizer, tmp_path):
    from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

    from fastadasp.export.options import BuildOptions
    from fastadasp.export.pipeline import build
    from fastadasp.profiles.profile import load_profile
    from fastadasp.runtime import SpeechLM

    model = trained_model(language, clips)
    special = {"audio": language.audio, "end": language.end}
    whole = checkpoint.whole_model(model, untrained_encoder(ENCODER), language_weights(), SIZES, special)
    checkpoint.save(whole, tokenizer, tmp_path / "model")
    build(tmp_path / "model", tmp_path / "artifact", BuildOptions((load_profile("full", ()),)))
    samples = (np.random.default_rng(0).normal(size=16000) * 0.1).astype(np.float32)
    ours = SpeechLM.load(str(tmp_path / "artifact"), threads=1)
    result = ours.generate(samples, PROMPT, num_beams=1, max_new_tokens=6)
    reference = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.float32)
    extractor = WhisperFeatureExtractor.from_pretrained(tmp_path / "model")
    heard = extractor(
        samples, sampling_rate=16000, return_tensors="pt", padding="max_length", return_attention_mask=True
    )
    tokens = [*language.before, *[special["audio"]] * 25, *language.after]
    with torch.inference_mode():
        expected = reference.generate(
            input_ids=torch.tensor([tokens]),
            input_features=heard.input_features,
            feature_attention_mask=heard.attention_mask,
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            max_new_tokens=6,
            do_sample=False,
        )[0, len(tokens) :]
    assert list(result.hypotheses[0].tokens) == expected.tolist()[: len(result.hypotheses[0].tokens)]


def test_a_clip_too_short_for_its_transcript_is_left_out(language, tmp_path):
    entry = {"text": "the house is open", "voice": "one", "at": 0, "rows": 6}
    (tmp_path / "train-0000.json").write_text(json.dumps([entry, {**entry, "rows": 60}]), "utf-8")
    assert [clip.rows for clip in read_clips(tmp_path, "train", language)] == [60]
    assert isinstance(read_clips(tmp_path, "train", language)[0], Clip)
