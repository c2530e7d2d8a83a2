"""The answer to a request: now, from a thread of the queue, or in pieces."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import replace

from ...profiles.errors import RequestError
from ..alignment.row_map import Array, LayerRows, prompt_rows, row_map
from ..alignment.word_times import (
    LEAST_SHARE,
    MEASURED_SECONDS,
    Looks,
    Word,
    looked_at,
    share_within,
    words_of,
)
from ..artifact.artifact import NO_TOKENIZER
from ..audio.encoder import EncodedAudio
from ..batching.submitted import Submitted
from ..decoding.drive import new_search
from ..decoding.options import ResolvedSearch
from ..decoding.scoring_search import ForcedText, ScoringSearch
from ..decoding.search import Hypothesis
from ..prompt import PromptCodec
from ..results import GenerationResult, TextHypothesis
from ..stream import Stream
from .asked import Asked
from .audio import hear
from .check import checked
from .choice import heard_and_chosen
from .decoder import DecoderPrompt, new_decoder
from .loaded import LoadedModel
from .prompt import history, prompt_ids
from .request import Request
from .scored_text import spellings, tokens_of


def answer(model: LoadedModel, asked: Asked) -> GenerationResult:
    """The whole answer; errors as in `SpeechLM.generate`."""
    request = _begin(model, asked)
    request.run()
    return _result(model, request)


def submitted(model: LoadedModel, asked: Asked) -> Submitted:
    """The answer, once a thread of the queue has found it.

    Raises:
        RequestError: the model is closed.
        QueueFullError: enough requests are waiting.
    """
    return model.queue.submit(lambda: answer(model, asked), asked.guard)


def streamed(model: LoadedModel, asked: Asked) -> Stream:
    """The answer in pieces; errors as in `SpeechLM.stream`."""
    codec = streaming_codec(model, asked.search)
    return Stream(_pieces(model, codec, _begin(model, asked)), asked.guard.own)


def streaming_codec(model: LoadedModel, search: ResolvedSearch) -> PromptCodec:
    """What makes pieces of text of tokens; RequestError where there can be none."""
    if search.num_beams != 1:
        raise RequestError(f"num_beams is {search.num_beams}: tokens are streamed by greedy search, give 1")
    if model.codec is None:
        raise RequestError(f"{model.place}: {NO_TOKENIZER}")
    return model.codec


def _begin(model: LoadedModel, asked: Asked) -> Request:
    """Check a request, encode its audio, and set up the search for its answer."""
    ids, search, watch = prompt_ids(model, asked.prompt, asked.system), asked.search, asked.watch
    chosen = heard_and_chosen(model, asked, ids)
    scored = spellings(model, asked, ids)
    encoded = isinstance(asked.audio, EncodedAudio)
    taken = checked(model, ids, chosen.profile, search, scored_tokens=tokens_of(scored), encoded=encoded)
    heard = chosen.heard or hear(model, asked, taken.while_read)
    ids = ids.about(heard.audio.seconds)
    replace(taken, ids=ids).check(heard.place, heard.audio)
    rows = heard.rows if heard.rows is not None else model.audio_encoder.encode(heard.audio.samples, watch)
    prompt = DecoderPrompt(ids.before, rows, ids.after, ids.adapter)
    decoder = new_decoder(model, taken.profile, prompt, watch, taken.sizes if asked.shares else None)
    started = new_search(search, vocab_size := model.dims.vocab_size, history(model.manifest, ids))
    forced = ForcedText([ids.tolist() for ids in scored], search.end_tokens) if scored else None
    return Request(
        profile=taken.profile,
        options=search,
        audio_seconds=heard.audio.seconds,
        audio_rows=len(rows),
        text_rows=ids.num_text_rows,
        rows_after=len(ids.after),
        search=started if forced is None else ScoringSearch(started, forced, vocab_size),
        decoder=decoder,
        watch=watch,
        profile_reason=chosen.reason,
        looks=Looks(decoder) if model.manifest.decoder.word_heads else None,
        map_rows=_map_rows(model, taken.profile, prompt, heard.audio.seconds),
        scored_text=forced,
    )


def _map_rows(
    model: LoadedModel, profile: str, prompt: DecoderPrompt, seconds: float
) -> Callable[[Mapping[int, Array]], tuple[LayerRows, ...]] | None:
    """What makes the map of the rows at the end, if the artifact tells where they come from."""
    if not model.manifest.decoder.row_maps:
        return None
    resolved, front_end = model.manifest.profiles[profile], model.manifest.front_end
    sizes = len(prompt.before), len(prompt.rows), len(prompt.after)
    return lambda sources: row_map(resolved, prompt_rows(front_end, *sizes, seconds), sources)


def _pieces(
    model: LoadedModel, codec: PromptCodec, request: Request
) -> Generator[str, None, GenerationResult]:
    yield from codec.stream(request.tokens())
    return _result(model, request)


def _result(model: LoadedModel, request: Request) -> GenerationResult:
    with request.watch.stage("detokenize"):
        hypotheses = tuple(_with_text(model.codec, found) for found in request.search.hypotheses)
    result = request.result(hypotheses)
    return replace(result, words=_words(model, request, result))


def _words(model: LoadedModel, request: Request, result: GenerationResult) -> tuple[Word, ...] | None:
    """When the words of an answer begin, if the artifact tells where its rows look."""
    told, codec = model.manifest.decoder.word_heads, model.codec
    if told is None or codec is None:
        return None
    assert request.looks is not None, "the manifest has word heads"
    assert result.row_map is not None, "the manifest was checked: it has row maps, too"
    rows, behind = result.row_map[told.layer], request.rows_after + model.manifest.front_end.eos_rows
    if not rows.starts:  # a profile may leave none but those that the encoder sets around the audio
        return None
    end, tokens = result.prefix_lengths[told.layer] - behind, result.hypotheses[0].tokens
    audio = slice(end - len(rows.starts), end)
    looks = [look[audio] for look in request.looks.of(tokens)]
    spans = [looked_at(look, rows) for look in looks]
    shares = [share_within(look, rows, span) for look, span in zip(looks, spans, strict=True)]
    is_measured = result.audio_seconds <= MEASURED_SECONDS
    sure = [is_measured and share >= LEAST_SHARE for share in shares]
    texts = [codec.decode(tokens[: i + 1]) for i in range(len(tokens))]
    return words_of(texts, [begin for begin, _ in spans], sure)


def _with_text(codec: PromptCodec | None, found: Hypothesis) -> TextHypothesis:
    return TextHypothesis(**vars(found), text=codec.decode(found.tokens) if codec else "")
