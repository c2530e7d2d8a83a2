"""Transformers in fp32 and bf16, with SDPA attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peers.cases import DEMO, MODELS, prompt
from peers.worker import Clock, Loading, Record, Run, record

LIBRARIES = ("transformers", "torch")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}


def write(folder: Path, form: str, model: str) -> None:
    """Nothing: it reads the checkpoint."""


def load(loading: Loading) -> Run:
    import torch
    from transformers import Qwen2AudioForConditionalGeneration

    torch.set_num_threads(loading.threads)
    dtype = getattr(torch, DTYPES[loading.form])
    folder = loading.folder / "checkpoint"
    model = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()
    return _clips(model, loading) if loading.model == DEMO else _decoder(model, loading)


def _decoder(model: Any, loading: Loading) -> Run:
    import torch

    sizes, embed = MODELS[loading.model].sizes, model.get_input_embeddings()

    def run(seconds: int, beams: int, _: str, tokens: int) -> Record:
        before, rows, after = map(torch.from_numpy, prompt(sizes, seconds))
        with torch.inference_mode():
            parts = [part.to(model.dtype) for part in (embed(before), rows, embed(after))]
        embeds = torch.cat(parts)[None]
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        return generate(model, Clock(), beams, tokens, inputs_embeds=embeds, attention_mask=mask)[0]

    return run


def generate(model: Any, clock: Clock, beams: int, tokens: int, **inputs: Any) -> tuple[Record, Any]:
    """One request of the library's own `generate`; the prefill ends when scores are first looked at."""
    import torch
    from transformers import LogitsProcessorList

    reads: list[list[float]] = []

    def look(_: Any, scores: Any) -> Any:
        reads.append(clock.read())
        return scores

    with torch.inference_mode():
        out = model.generate(
            **inputs,
            num_beams=beams,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            pad_token_id=0,
            logits_processor=LogitsProcessorList([look]),
        )
    assert len(reads) == tokens, len(reads)
    return record(reads[0], clock.read(), tokens), out


def _clips(model: Any, loading: Loading) -> Run:
    import soundfile
    from transformers import AutoFeatureExtractor, AutoTokenizer

    folder = loading.folder / "checkpoint"
    extractor, tokenizer = (one.from_pretrained(folder) for one in (AutoFeatureExtractor, AutoTokenizer))

    def run(seconds: int, beams: int, _: str, tokens: int) -> Record:
        clock = Clock()
        samples, rate = soundfile.read(loading.folder / f"{seconds}.wav", dtype="float32")
        heard = extractor(samples, sampling_rate=rate, return_attention_mask=True, return_tensors="pt")
        mask = heard["attention_mask"]
        rows = ((int(mask.sum()) - 1) // 2 + 1 - 2) // 2 + 1
        text = f"<bos><audio_bos>{'<AUDIO>' * rows}<audio_eos><asr>"
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
        found, out = generate(
            model,
            clock,
            beams,
            tokens,
            input_ids=ids["input_ids"],
            attention_mask=ids["attention_mask"],
            input_features=heard["input_features"].to(model.dtype),
            feature_attention_mask=mask,
        )
        answer = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return {**found, "text": answer}

    return run
