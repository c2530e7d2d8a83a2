"""Qwen-Audio, version 1: its own weight layout, fused query/key/value, audio rows with a bos and an eos.

The fused projection is cut into thirds by row, which are byte ranges of the same file. Dynamic NTK and
log-n scaling change the model beyond its training length, `seq_length`, up to `max_position_embeddings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ....profiles.errors import CheckpointError
from ....profiles.flops import DecoderDims
from ....profiles.long_context import LONGEST_LOG_N, LongContext
from ....runtime.artifact.prompt import SYSTEM, AudioPlace, Prompt
from ....runtime.audio.front_end import FrontEnd
from ....runtime.audio.log_mel import LogMelConfig
from ...checkpoint.checkpoint import Checkpoint
from ...checkpoint.contents import unused_tensors
from ...checkpoint.tokenizer import token_id, tokenizer_file
from ..facts import Facts
from ..spec import DecoderLayer, DecoderSpec, Linear, SpeechModelSpec
from .parts.generation import GENERATION, Generation, read_generation
from .parts.qwen_tokens import AUDIO_BEGIN, AUDIO_END, NUM_RANKS, PAD, SPECIAL_TOKENS, TOKENIZER
from .parts.settings import CONFIG_IRRELEVANT, Settings, end_tokens, eos_ids, refuse_faults
from .parts.whisper import Names, Sizes, pooled_head, read_encoder

END_OF_TEXT = NUM_RANKS  # the base model's end of sequence, where no generation config names another
CHAT_FORMAT = "chatml"  # of chat models; others have none, or "raw"
CHAT_STOPS = {"<|im_end|>": END_OF_TEXT + 2, "<|im_start|>": END_OF_TEXT + 1}
"""What the official code stops at in a chat, beside the end of text: with the official tokenizer's ids."""
CHAT = "<|im_start|>user\nAudio 1:{audio}\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
SYSTEM_TURN, DEFAULT_SYSTEM = "<|im_start|>system\n{system}<|im_end|>\n", "You are a helpful assistant."
AUDIO_PLACE = AudioPlace(AUDIO_BEGIN, AUDIO_END)  # with the name of a file between them in official prompts
ROWS_PER_TOKEN = 2  # of the encoder: its average pooling
ROWS_PER_SECOND = 50  # of the encoder, before its average pooling
PAD_TOKEN_ID = NUM_RANKS + SPECIAL_TOKENS.index(
    PAD
)  # stands for the audio frames in the original token sequence
ENCODER = Names(
    conv1="transformer.audio.conv1",
    conv2="transformer.audio.conv2",
    positions="transformer.audio.positional_embedding",
    layer="transformer.audio.blocks.{i}.",
    query="attn.query",
    key="attn.key",
    value="attn.value",
    output="attn.out",
    attn_norm="attn_ln",
    fc1="mlp.0",
    fc2="mlp.2",
    mlp_norm="mlp_ln",
    final_norm="transformer.audio.ln_post",
)
PROJECTOR = "transformer.audio.proj"
BOS_EOS_ROWS = "transformer.audio.audio_bos_eos_token.weight"

LAYER_COUNTS = {"transformer.audio.blocks.": "audio: n_layer", "transformer.h.": "num_hidden_layers"}

TEXT_IRRELEVANT = (
    *(*CONFIG_IRRELEVANT, "audio", "attn_dropout_prob", "emb_dropout_prob", "tokenizer_type", "onnx_safe"),
    *("fp16", "bf16", "fp32", "use_flash_attn"),  # how the original computes
)
TEXT_DEFAULTS = {
    "rotary_emb_base": 10000,
    "max_position_embeddings": 8192,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
}
AUDIO_IRRELEVANT = ("audio_start_id",)  # compared with the tokenizer, where there is one

REFERENCE = None  # transformers has no such model, and code that comes with a checkpoint is never run
FACTS = Facts(
    name="Qwen-Audio",
    state="tiny random weights: equal to recordings of the published code; settings and tokens of the real "
    "model read; published weights never tried",
    token_rate="25, and a row before and after the audio",
    limits="`max_position_embeddings`, 8192 in the 7B model: 327 s of audio, less prompt and answer; beyond "
    "`seq_length`, 2048 rows or 81 s, with dynamic NTK and log-n, where the settings have them on",
    prompts="`<audio>FILE</audio>` and the tags of a task; ChatML where the generation config asks for it",
    notes="without `tokenizer.json`, the tokenizer is made of `qwen.tiktoken`; audio of more than 30 s "
    "becomes several windows in one span; the published code reads the first window",
)


def load(checkpoint: Checkpoint) -> SpeechModelSpec:
    """Describe a Qwen-Audio checkpoint."""
    checkpoint.rank_tokenizer = TOKENIZER
    place = f"{checkpoint.folder}/config.json"
    text = Settings(place, checkpoint.config, TEXT_DEFAULTS)
    text.require(no_bias=True, rotary_pct=1.0, tie_word_embeddings=False, scale_attn_weights=True)
    if not isinstance(checkpoint.config.get("audio"), dict):
        raise CheckpointError(
            f"{place}: no section 'audio'; a text-only Qwen checkpoint has nothing to reduce"
        )
    audio = Settings(f"{place}: audio", checkpoint.config["audio"], {})
    audio.require(avg_pool=True, add_audio_bos_eos_token=True, output_dim=text.count("hidden_size"))
    generation = read_generation(checkpoint)
    dims, sizes = _dims(text), _encoder_sizes(audio, text.count("hidden_size"))
    norm_eps, rope_theta = text.number("layer_norm_epsilon"), text.number("rotary_emb_base")
    context, max_positions = _long_context(text, dims.head_dim), text.count("max_position_embeddings")
    _check_tokens(checkpoint, text)
    refuse_faults(text, audio)
    if context and context.log_n:
        max_positions = min(max_positions, LONGEST_LOG_N)
    decoder = _decoder(checkpoint, dims, norm_eps, rope_theta, max_positions, context)
    head = pooled_head(checkpoint, sizes, PROJECTOR, BOS_EOS_ROWS)
    encoder = read_encoder(checkpoint, ENCODER, sizes, head)
    log_mel = LogMelConfig(
        num_mel_bins=sizes.num_mel_bins, window_seconds=sizes.max_positions // ROWS_PER_SECOND, edge="cut"
    )
    return SpeechModelSpec(
        family="qwen_audio",
        decoder=decoder,
        encoder=encoder,
        front_end=FrontEnd(log_mel, ROWS_PER_TOKEN, bos_rows=1, eos_rows=1),
        prompt=_prompt(checkpoint, checkpoint.config["audio"], generation),
        eos_token_ids=_eos(checkpoint, generation, text, decoder.dims.vocab_size),
        generation=generation.search,
        notes=(
            *text.notes(TEXT_IRRELEVANT),
            *_plain_beyond_training(text, max_positions, context),
            *audio.notes(AUDIO_IRRELEVANT),
            *generation.notes(*(("stop_words_ids",) if _stop_words(generation) else ())),
            *unused_tensors(checkpoint, LAYER_COUNTS),
        ),
    )


def _check_tokens(checkpoint: Checkpoint, text: Settings) -> None:
    """Refuse a vocabulary that lacks the last of the tokens whose ids follow from the file of ranks."""
    path, size = tokenizer_file(checkpoint), text.count("vocab_size")
    if path is not None and path.name == TOKENIZER.file and size < TOKENIZER.size:
        text.faults.append(f"vocab_size {size} is less than the {TOKENIZER.size} tokens of {TOKENIZER.file}")


def _eos(checkpoint: Checkpoint, generation: Generation, text: Settings, vocab_size: int) -> tuple[int, ...]:
    """The end of text, the stop words of the generation config, and in a chat the marks of turns."""
    found = eos_ids(generation, text)
    if not found and vocab_size > END_OF_TEXT:
        found = (END_OF_TEXT,)
    stops = _chat_stops(checkpoint, generation, vocab_size)
    return tuple(dict.fromkeys((*found, *_stop_words(generation), *stops)))


def _stop_words(generation: Generation) -> tuple[int, ...]:
    """The stop words of the generation config, if each is a single token; a longer one is no end token."""
    words = generation.values.get("stop_words_ids")
    if not isinstance(words, list) or not all(isinstance(word, list) and len(word) == 1 for word in words):
        return ()
    return end_tokens(generation.place, [word[0] for word in words])


def _is_chat(generation: Generation) -> bool:
    return generation.values.get("chat_format") == CHAT_FORMAT


def _chat_stops(checkpoint: Checkpoint, generation: Generation, vocab_size: int) -> Iterator[int]:
    """By the tokenizer, where there is one."""
    for text, official in CHAT_STOPS.items() if _is_chat(generation) else ():
        found = token_id(checkpoint, text, GENERATION)
        if found is not None or official < vocab_size:
            yield official if found is None else found


def _prompt(checkpoint: Checkpoint, audio: dict[str, Any], generation: Generation) -> Prompt | None:
    """The base form or that of a chat, where a tokenizer with the audio tokens is there."""
    start = token_id(checkpoint, AUDIO_PLACE.begin)
    if start is None:
        return None
    if start != audio.get("audio_start_id"):
        wanted = audio.get("audio_start_id")
        raise CheckpointError(
            f"{tokenizer_file(checkpoint)}: {AUDIO_BEGIN} is {start}, config.json says {wanted}"
        )
    if not _is_chat(generation):
        return Prompt("{audio}{prompt}", AUDIO_PLACE, (start, PAD_TOKEN_ID, start + 1))
    return Prompt(
        SYSTEM_TURN.replace(SYSTEM, DEFAULT_SYSTEM) + CHAT,
        AUDIO_PLACE,
        (start, PAD_TOKEN_ID, start + 1),
        system_template=SYSTEM_TURN + CHAT,
    )


def _encoder_sizes(audio: Settings, output_size: int) -> Sizes:
    width = audio.count("n_state")
    audio.divides("n_head", "n_state")
    if (positions := audio.count("n_ctx")) % ROWS_PER_SECOND:
        audio.faults.append(f"n_ctx {positions} is not divisible by {ROWS_PER_SECOND}, the rows per second")
    return Sizes(
        num_layers=audio.count("n_layer"),
        num_heads=audio.count("n_head"),
        hidden_size=width,
        intermediate_size=4 * width,
        num_mel_bins=audio.count("n_mels"),
        max_positions=positions,
        output_size=output_size,
    )


def _long_context(text: Settings, head_dim: int) -> LongContext | None:
    """What goes on beyond `seq_length`; both switches are on where config.json has none."""
    context = LongContext(
        text.count("seq_length"), text.flag("use_dynamic_ntk"), log_n=text.flag("use_logn_attn")
    )
    if context.dynamic_ntk and head_dim == 2:
        text.faults.append("kv_channels 2 is too small for use_dynamic_ntk")
    if context.trained_rows < context.least_trained_rows:
        text.faults.append(f"seq_length {context.trained_rows} is too small for use_logn_attn")
    return context if context.dynamic_ntk or context.log_n else None


def _plain_beyond_training(text: Settings, max_positions: int, context: LongContext | None) -> Iterator[str]:
    """A line where nothing helps a model at positions that it was not trained on, as in the original."""
    if context is None and text.count("seq_length") < max_positions:
        yield (
            f"{text.place}: use_dynamic_ntk and use_logn_attn are off: prompts and answers of more rows than "
            f"seq_length {text.count('seq_length')} run at positions that the model was not trained on"
        )


def _decoder(
    checkpoint: Checkpoint,
    dims: DecoderDims,
    norm_eps: float,
    rope_theta: float,
    max_positions: int,
    context: LongContext | None,
) -> DecoderSpec:
    table = (dims.vocab_size, dims.hidden_size)
    return DecoderSpec(
        dims=dims,
        norm_eps=norm_eps,
        rope_theta=rope_theta,
        attention_scale=dims.head_dim**-0.5,
        max_positions=max_positions,
        embedding=checkpoint.tensor("transformer.wte.weight", table),
        layers=tuple(_layer(checkpoint, dims, f"transformer.h.{i}") for i in range(dims.num_layers)),
        final_norm=checkpoint.tensor("transformer.ln_f.weight", (dims.hidden_size,)),
        head=Linear(checkpoint.tensor("lm_head.weight", table)),
        long_context=context,
    )


def _dims(text: Settings) -> DecoderDims:
    heads, head_dim = text.count("num_attention_heads"), text.count("kv_channels")
    if head_dim % 2:
        text.faults.append(f"kv_channels {head_dim} is odd, which rotary positions cannot be")
    if (intermediate := text.count("intermediate_size")) % 2:
        text.faults.append(f"intermediate_size {intermediate} is odd, but counts gate and up together")
    return DecoderDims(
        num_layers=text.count("num_hidden_layers"),
        hidden_size=text.count("hidden_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=head_dim,
        intermediate_size=intermediate // 2,  # config counts gate and up together
        vocab_size=text.count("vocab_size"),
    )


def _layer(checkpoint: Checkpoint, dims: DecoderDims, base: str) -> DecoderLayer:
    d, m, width = dims.hidden_size, dims.intermediate_size, dims.query_width
    weight = checkpoint.tensor(f"{base}.attn.c_attn.weight", (3 * width, d))
    bias = checkpoint.tensor(f"{base}.attn.c_attn.bias", (3 * width,))
    query, key, value = (
        Linear(weight.rows(i * width, (i + 1) * width), bias.rows(i * width, (i + 1) * width))
        for i in range(3)
    )

    def linear(name: str, rows: int, columns: int) -> Linear:
        return Linear(checkpoint.tensor(f"{base}.{name}.weight", (rows, columns)))

    return DecoderLayer(
        attn_norm=checkpoint.tensor(f"{base}.ln_1.weight", (d,)),
        query=query,
        key=key,
        value=value,
        output=linear("attn.c_proj", d, width),
        mlp_norm=checkpoint.tensor(f"{base}.ln_2.weight", (d,)),
        gate=linear("mlp.w2", m, d),
        up=linear("mlp.w1", m, d),
        down=linear("mlp.c_proj", d, m),
    )
