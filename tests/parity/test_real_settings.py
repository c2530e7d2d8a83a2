"""Settings of public checkpoints, and a sample whose answer was wrong; they lie beside the clone."""

import json
import shutil

import pytest
import torch
from transformers import GenerationConfig, Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor

from fastadasp.export.checkpoint.checkpoint import Checkpoint
from fastadasp.export.model.families import qwen_audio
from fastadasp.export.model.families.parts.generation import read_generation
from fastadasp.export.options import BuildOptions
from fastadasp.export.pipeline import build
from fastadasp.runtime import SpeechLM
from fastadasp.runtime.artifact.artifact import TOKENIZER
from fastadasp.runtime.prompt import PromptCodec, tokenizer_of
from shared_files import FAULTS, REAL_FILES

from .conftest import FULL
from .models import SAMPLE_RATE, sound
from .test_transformers import until_end

SAMPLE = FAULTS / "ck_gen_rep"
real_files = pytest.mark.skipif(not REAL_FILES.is_dir(), reason="the real settings do not lie there")


@pytest.fixture
def settings(tmp_path):
    """A function that reads a real generation config."""

    def settings(*names):
        (tmp_path / "config.json").write_text("{}")
        shutil.copy(REAL_FILES.joinpath(*names), tmp_path / "generation_config.json")
        return read_generation(Checkpoint(tmp_path))

    return settings


@real_files
def test_qwen2_audio_penalises_repetition_and_its_sampling_is_named(settings):
    found = settings("qwen2_audio", "generation_config.json")
    assert found.search.given == {"repetition_penalty": 1.1}
    (note,) = found.notes()
    assert "not taken from the checkpoint: do_sample True, temperature 0.7, top_k 20, top_p 0.5; " in note


@real_files
@pytest.mark.parametrize("name", ["base_generation_config.json", "chat_generation_config.json"])
def test_qwen_audio_answers_in_512_tokens_and_its_sampling_is_named(settings, name):
    found = settings("qwen_audio", name)
    assert found.search.given == {"max_new_tokens": 512}
    (note,) = found.notes("stop_words_ids")
    assert "not taken from the checkpoint: do_sample True, top_k 0, top_p " in note


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample does not lie there")
def test_a_question_is_answered_as_transformers_answers_it_with_the_files_of_the_checkpoint(tmp_path):
    build(SAMPLE, tmp_path / "artifact", BuildOptions((FULL,), weights="copy"))
    speech_lm = SpeechLM.load(tmp_path / "artifact", threads=1)
    processor = Qwen2AudioProcessor.from_pretrained(SAMPLE)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(SAMPLE, dtype=torch.float32).eval()
    config = GenerationConfig.from_pretrained(SAMPLE)
    codec = PromptCodec(
        tokenizer_of(speech_lm.artifact.read(TOKENIZER), TOKENIZER), speech_lm.manifest.prompt
    )
    audio_id = json.loads((SAMPLE / "config.json").read_text())["audio_token_index"]
    for text, system in (("What is said?", None), ("hello {x}\n世界", "Be brief.")):
        user = [{"type": "audio", "audio_url": "x"}, {"type": "text", "text": text}]
        messages = [{"role": "user", "content": user}]
        if system:
            messages.insert(0, {"role": "system", "content": system})
        whole = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        ids = codec.encode(text, system)
        expected_ids = processor.tokenizer.encode(whole, add_special_tokens=False)
        assert [*ids.before.tolist(), audio_id, *ids.after.tolist()] == expected_ids
        for seed in range(4):
            samples = sound(20000, seed)
            inputs = processor(text=whole, audio=[samples], sampling_rate=SAMPLE_RATE, return_tensors="pt")
            with torch.no_grad():
                found = model.generate(**inputs, generation_config=config, do_sample=False, max_new_tokens=20)
            options = speech_lm.search_options(max_new_tokens=20)
            expected = until_end(found[0, inputs["input_ids"].shape[1] :].tolist(), options)
            (answer,) = speech_lm.generate(samples, text, system=system, max_new_tokens=20).hypotheses
            assert (answer.tokens, answer.finished) == expected


@real_files
def test_a_real_chat_stops_at_its_turns_though_its_file_names_the_end_of_text_alone():
    chat = json.loads((REAL_FILES / "qwen_audio/chat_generation_config.json").read_text())
    special = json.loads((REAL_FILES / "qwen_audio/special_tokens.json").read_text())["special_tokens"]
    assert chat["chat_format"] == qwen_audio.CHAT_FORMAT
    assert {text: special[text] for text in qwen_audio.CHAT_STOPS} == qwen_audio.CHAT_STOPS
    assert special["<|endoftext|>"] == chat["eos_token_id"] == qwen_audio.END_OF_TEXT
