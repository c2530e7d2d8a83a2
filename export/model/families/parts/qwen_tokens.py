"""The tokenizer of the first Qwen-Audio: what stands in its code and in no file of a checkpoint."""

from __future__ import annotations

from ....checkpoint.ranks.rank_tokenizer import RankTokenizer

NUM_RANKS = 151643
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
AUDIO_BEGIN, AUDIO_END = "<audio>", "</audio>"
PAD = "[[[AUDIO:modality]]]"  # stands for each audio frame


def _marks(names: str) -> tuple[str, ...]:
    return tuple(f"<|{name}|>" for name in names.split())


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"<|{name}_{i}|>" for i in range(count))


SPECIAL_TOKENS = (
    *_marks("endoftext im_start im_end"),
    *_numbered("extra", 205),
    PAD,
    *_marks("startoftranscript startofanalysis translate transcribe caption keyword"),
    *_marks("unknown en zh de es ko fr ja it zh_tr"),  # languages
    *_marks("notimestamps sil timestamps"),
    *(f"<|{i // 100}.{i % 100:02}|>" for i in range(3001)),  # seconds of a window, in hundredths
    *_marks("caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn"),
    *_marks("startofentityvalue endofentityvalue startofentitytype endofentitytype"),
    *_marks("named_entity_recognition audio_grounding startofword endofword delim"),
    *_marks("emotion_recognition music_description note_analysis pitch"),
    *_numbered("midi_pitch", 128),
    *_marks("velocity"),
    *_numbered("midi_velocity", 128),
    *_marks("sonic instrument speaker_meta song_meta question answer choice scene event"),
    *_marks("vocal_classification speech_understanding scenario action entities speech_edit"),
    AUDIO_BEGIN,
    AUDIO_END,
)
TOKENIZER = RankTokenizer("qwen.tiktoken", NUM_RANKS, PATTERN, SPECIAL_TOKENS)
