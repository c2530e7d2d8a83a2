"""Prompts and stops of Qwen-Audio, version 1: base and chat, with a model that says what a table says."""

import json
from itertools import pairwise

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.profiles.errors import CheckpointError, RequestError
from fastadasp.runtime import RawPrompt, SpeechLM
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of
from golden_folder import CONFIG, _shapes

from .conftest import FULL
from .models import sound

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<audio>", "</audio>", "<|en|>", "<|transcribe|>")
END, START, STOP = 0, 1, 2
PAD_FRAMES = 151851
TASK = "<|en|><|transcribe|>"


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Hello world"] * 9, trainer)
    return tokenizer


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def save_checkpoint(folder, tokenizer, generation, answer):
    """A model whose next token follows from the last one alone: `answer` is said token by token."""
    vocab, width = tokenizer.get_vocab_size(), 320
    audio = {**CONFIG["audio"], "output_dim": width, "audio_start_id": SPECIAL.index("<audio>")}
    config = {**CONFIG, "vocab_size": vocab, "hidden_size": width, "num_hidden_layers": 1, "audio": audio}
    config |= {"kv_channels": width // 2, "seq_length": 256}
    weights = {name: np.zeros(shape, np.float32) for name, shape in _shapes(config).items()}
    weights["transformer.wte.weight"] = np.eye(vocab, width, dtype=np.float32)
    weights["transformer.ln_f.weight"] += 1
    for last, following in pairwise(answer):
        weights["lm_head.weight"][following, last] = 1
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(generation))
    save_file(weights, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def built(tokenizer, tmp_path, caplog):
    def built(generation, answer=(0, 1)):
        folder = save_checkpoint(tmp_path / "checkpoint", tokenizer, generation, answer)
        caplog.clear()
        build(folder, tmp_path / "artifact", BuildOptions((FULL,)))
        return SpeechLM.load(tmp_path / "artifact", threads=1), list(caplog.messages)

    return built


BASE = {"chat_format": "raw", "eos_token_id": END, "stop_words_ids": [[END]], "max_new_tokens": 12}
CHAT = {"chat_format": "chatml", "eos_token_id": END, "max_window_size": 6144, "max_new_tokens": 12}


def codec(model):
    return PromptCodec(tokenizer_of(model.artifact.read(TOKENIZER), TOKENIZER), model.manifest.prompt)


@pytest.mark.parametrize("between", ["", "assets/audio/1272-128104-0000.flac", "a b.wav"])
def test_the_official_form_has_one_place_whatever_stands_between_its_tags(built, tokenizer, between):
    model, notes = built(BASE)
    assert notes == []
    found = codec(model).encode(f"<audio>{between}</audio>{TASK}")
    assert found.before.tolist() == []
    assert found.after.tolist() == ids(tokenizer, TASK)
    template = codec(model).encode(TASK)
    assert (template.before.tolist(), template.after.tolist()) == ([], found.after.tolist())
    assert model.manifest.prompt.audio_token_ids == (3, PAD_FRAMES, 4)


def test_a_chat_wraps_texts_in_turns(built, tokenizer):
    model, _ = built(CHAT)
    for system in (None, "Be brief {prompt}."):
        found = codec(model).encode("What is said?\n{system}", system)
        told = system or "You are a helpful assistant."
        before = f"<|im_start|>system\n{told}<|im_end|>\n<|im_start|>user\nAudio 1:"
        after = "\nWhat is said?\n{system}<|im_end|>\n<|im_start|>assistant\n"
        assert found.before.tolist() == ids(tokenizer, before)
        assert found.after.tolist() == ids(tokenizer, after)
    raw = codec(model).encode(RawPrompt("<audio>x.wav</audio>hello"))
    assert (raw.before.tolist(), raw.after.tolist()) == ([], ids(tokenizer, "hello"))


@pytest.mark.parametrize(("stop", "name"), [(STOP, "im_end"), (START, "im_start"), (END, "endoftext")])
def test_a_chat_stops_at_the_marks_of_turns(built, tokenizer, stop, name):
    answer = [*ids(tokenizer, "\n"), *ids(tokenizer, "Hello world"), stop]
    model, _ = built(CHAT, answer)
    assert model.manifest.decoder.eos_token_ids == (END, STOP, START)
    result = model.generate(sound(9000), "hi")
    assert (result.text, result.finish_reason) == ("Hello world", "stop")


def test_a_base_model_stops_at_the_end_of_text_alone(built, tokenizer):
    said = ids(tokenizer, "Hello world")
    model, _ = built(BASE, [*ids(tokenizer, TASK), *said, STOP, said[0]])
    assert model.manifest.decoder.eos_token_ids == (END,)
    assert model.generate(sound(9000), TASK).finish_reason == "length"
    with pytest.raises(RequestError, match="no place for it"):
        model.generate(sound(9000), TASK, system="Be brief.")


def test_stop_words_of_one_token_end_an_answer_and_longer_ones_are_named(built):
    model, notes = built({**BASE, "stop_words_ids": [[END], [7]]})
    assert model.manifest.decoder.eos_token_ids == (END, 7)
    assert notes == []


def test_longer_stop_words_are_named(built):
    model, (note,) = built({**BASE, "stop_words_ids": [[END], [7, 8]]})
    assert model.manifest.decoder.eos_token_ids == (END,)
    assert "not taken from the checkpoint: stop_words_ids [[0], [7, 8]]" in note


def test_a_chat_whose_tokenizer_lacks_its_turns_is_refused(tokenizer, tmp_path):
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = [each for each in content["added_tokens"] if each["content"] != "<|im_end|>"]
    content["model"]["vocab"]["<|gone|>"] = content["model"]["vocab"].pop("<|im_end|>")
    other = Tokenizer.from_str(json.dumps(content))
    folder = save_checkpoint(tmp_path / "checkpoint", other, CHAT, (0, 1))
    with pytest.raises(CheckpointError, match=r"im_end\|> is missing, which generation_config\.json asks"):
        build(folder, tmp_path / "artifact", BuildOptions((FULL,)))
