"""The first Qwen-Audio with its real files: its tokens, its prompts, and a folder with tiny weights."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file
from tokenizers import Tokenizer

from fastadasp.export.checkpoint.ranks.rank_tokenizer import made_tokenizer
from fastadasp.export.cli import main
from fastadasp.export.model.families.parts.qwen_tokens import NUM_RANKS, PATTERN, SPECIAL_TOKENS, TOKENIZER
from fastadasp.runtime.artifact.artifact import open_artifact
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of
from golden_folder import CONFIG, _draw, _shapes
from shared_files import REAL_FILES

pytestmark = pytest.mark.skipif(not REAL_FILES.is_dir(), reason="the real files do not lie there")
FOLDER = REAL_FILES / "qwen_audio"
HIDDEN, VOCABULARY = 16, 155947
OFFICIAL = {
    "asr": "<|startoftranscript|><|en|><|transcribe|><|en|><|notimestamps|><|wo_itn|>",
    "translation": "<|startoftranscript|><|en|><|translate|><|zh|><|notimestamps|><|itn|>",
    "emotion": "<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|emotion_recognition|>",
    "caption": "<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_clotho|>",
}
SAID = ("Hello", " world", "<|im_end|>", " again")
TEXTS = (
    "What does the person say?",
    "这段音频里说了什么?",
    "이 사람은 뭐라고 말하나요? 話している内容は?",
    "naïve cafe\u0301, 123 4567 ½",
    "tabs\tand\r\nlines\n\n   and   runs of spaces   ",
    "🙂👩‍👩‍👧‍👦🇩🇪",
    "<|0.00|> Hi<|29.98|><|30.00|><|30.01|> <|midi_pitch_127|><|midi_pitch_128|>",
    "<|extra_204|><|extra_205|>[[[AUDIO:modality]]]</audio>",
    "<|im_end|>\u0338 <audio>\u0338",
)


@pytest.fixture(scope="module")
def official():
    """The tokenizer of the official code, on the same ranks."""
    tiktoken = pytest.importorskip("tiktoken", reason="compares with tiktoken, of the extra dev")
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(FOLDER / TOKENIZER.file))
    special = {text: NUM_RANKS + i for i, text in enumerate(SPECIAL_TOKENS)}
    return tiktoken.Encoding("official", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=special)


def official_ids(official, text):
    return official.encode(unicodedata.normalize("NFC", text), allowed_special="all")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Tiny weights that say `SAID` after any prompt which ends in a line break, with the real vocabulary."""
    folder = tmp_path_factory.mktemp("qwen") / "Qwen-Audio-Chat"
    folder.mkdir()
    for name in ("qwen.tiktoken", "tokenizer_config.json"):
        shutil.copy(FOLDER / name, folder)
    shutil.copy(FOLDER / "chat_generation_config.json", folder / "generation_config.json")
    audio = {**json.loads((FOLDER / "config.json").read_text("utf-8"))["audio"], "output_dim": HIDDEN}
    audio |= {"n_ctx": 100, "n_state": 16, "n_head": 2, "n_layer": 1}
    sizes = {
        "hidden_size": HIDDEN,
        "num_attention_heads": 1,
        "vocab_size": VOCABULARY,
        "num_hidden_layers": 2,
    }
    config = {**CONFIG, **sizes, "seq_length": 2048, "max_position_embeddings": 8192, "audio": audio}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(speaking(config), folder / "model.safetensors")
    return folder


def speaking(config):
    """Layers that add nothing; the last token alone decides, by its own direction, what follows."""
    rng = np.random.default_rng(0)
    weights = {name: _draw(rng, name, shape) for name, shape in _shapes(config).items()}
    for name, weight in weights.items():
        if ".c_proj." in name:
            weight[:] = 0
    embedding, head = weights["transformer.wte.weight"], weights["lm_head.weight"]
    weights["transformer.ln_f.weight"][:] = 1
    embedding[:, :8] = head[:] = 0
    tokens = Tokenizer.from_str(made_tokenizer(FOLDER / TOKENIZER.file, TOKENIZER))
    ids = [tokens.encode(text, add_special_tokens=False).ids for text in ("\n", *SAID)]
    for i, ((before,), (after,)) in enumerate(pairwise(ids)):
        embedding[before] = np.eye(HIDDEN)[i]
        head[after] = 10 * np.eye(HIDDEN)[i]
    return weights


def run(*args):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


@pytest.fixture(scope="module")
def artifact(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact") / "ART"
    exit_code, said = run("build", checkpoint, "-o", folder, "--profile", "full")
    assert exit_code == 0, said
    return folder


@pytest.fixture(scope="module")
def codec(artifact):
    """Tokenizer and templates of the artifact."""
    found = open_artifact(artifact)
    return PromptCodec(tokenizer_of(found.read("tokenizer.json"), "tokenizer.json"), found.manifest.prompt)


def test_the_special_tokens_have_the_order_of_the_official_ones():
    listed = json.loads((FOLDER / "special_tokens.json").read_text("utf-8"))
    assert listed["special_tokens"] == {text: NUM_RANKS + i for i, text in enumerate(SPECIAL_TOKENS)}
    assert listed["pre_tokenizer_regex"] == PATTERN
    assert listed["normalizer"] == "NFC"


def test_the_ids_of_many_texts_are_the_official_ones(artifact, official):
    tokenizer, rng = Tokenizer.from_file(str(artifact / "tokenizer.json")), random.Random(0)
    ranges = (32, 126), (0xA0, 0x17F), (0x400, 0x4FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1FAFF)
    texts = ["".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(20)) for _ in range(300)]
    texts += ["".join(rng.choices("etaoinshr  \n'", k=40)) for _ in range(300)]
    for text in (*TEXTS, *OFFICIAL.values(), *texts):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == official_ids(official, text), text


@pytest.mark.parametrize("task", OFFICIAL)
def test_the_official_prompts_give_the_official_ids(codec, official, task):
    found = codec.encode(f"<audio>clips/one.wav</audio>{OFFICIAL[task]}")
    assert found.before.tolist() == []
    assert found.after.tolist() == official_ids(official, OFFICIAL[task])


def test_a_chat_gives_the_official_ids_and_stops_where_the_official_code_does(artifact, codec, official):
    found = codec.encode("What does she say?")
    before = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nAudio 1:"
    after = "\nWhat does she say?<|im_end|>\n<|im_start|>assistant\n"
    assert found.before.tolist() == official_ids(official, before)
    assert found.after.tolist() == official_ids(official, after)
    stops = open_artifact(artifact).manifest.decoder.eos_token_ids
    assert set(stops) == {NUM_RANKS, NUM_RANKS + 1, NUM_RANKS + 2}


def test_an_answer_ends_at_the_end_of_the_turn(artifact, clip):
    exit_code, said = run("run", artifact, clip, "--prompt", "What is said?", "--beams", 1)
    assert exit_code == 0, said
    assert "Hello world" in said
    assert "again" not in said


def test_the_settings_of_the_real_model_are_all_known(checkpoint, tmp_path):
    config = json.loads((FOLDER / "config.json").read_text("utf-8"))
    exit_code, said = run(
        "build", other(checkpoint, tmp_path, config), "-o", tmp_path / "ART", "--profile", "full"
    )
    assert exit_code == 2, "its tensors are tiny"
    assert "transformer.wte.weight" in said
    assert "not known" not in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 155164}, "vocab_size 155164 is less than the 155165 tokens of qwen.tiktoken"),
        ({"audio": {"audio_start_id": 155162}}, "qwen.tiktoken: <audio> is 155163, config.json says 155162"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_refused(checkpoint, tmp_path, change, message):
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    audio = {**config["audio"], **change.get("audio", {})}
    folder = other(checkpoint, tmp_path, {**config, **change, "audio": audio})
    exit_code, said = run("build", folder, "-o", tmp_path / "ART", "--profile", "full")
    assert exit_code == 2
    assert message in said


def test_a_broken_file_of_ranks_is_refused_by_line(checkpoint, tmp_path):
    folder = other(checkpoint, tmp_path, json.loads((checkpoint / "config.json").read_text("utf-8")))
    ranks = (folder / TOKENIZER.file).read_bytes().splitlines()
    (folder / TOKENIZER.file).unlink()
    (folder / TOKENIZER.file).write_bytes(b"\n".join([*ranks[:99], b"?", *ranks[100:]]))
    exit_code, said = run("build", folder, "-o", tmp_path / "ART", "--profile", "full")
    assert exit_code == 2
    assert "qwen.tiktoken: line 100: b'?' is no token in base64 with its rank; copy the file" in said
    assert not (tmp_path / "ART").exists()


def other(checkpoint, tmp_path, config):
    """The same files beside another config.json."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for path in checkpoint.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder
