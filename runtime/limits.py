"""What a model can take: refused before any work is done, with the reason and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..profiles.errors import AudioError, LongAudioError, RequestError
from ..profiles.faults import shown
from .artifact.engines import Engines
from .artifact.manifest import Manifest
from .audio.read import Audio
from .audio.recording import CheckLength
from .cancellation.guard import Guard
from .decoding.answer_sizes import AnswerSizes
from .decoding.options import ResolvedSearch
from .prompt import Ids, PromptIds

MOST_CHARACTERS = 100  # a position: far above what a token of text stands for


def check_ids(manifest: Manifest, ids: PromptIds, profile: str) -> None:
    """Refuse ids that this artifact cannot take under a profile.

    Raises:
        RequestError: ids outside the vocabulary, none for the prompt adapter, another prompt than the one in
            the weights, or a span that would start before the prompt.
    """
    _check_adapter_ids(manifest, ids)
    size = manifest.decoder.dims.vocab_size
    adapter = () if ids.adapter is None else ids.adapter.tolist()
    if outside := [i for i in (*ids.before.tolist(), *ids.after.tolist(), *adapter) if not 0 <= i < size]:
        raise RequestError(f"prompt: token {outside[0]} is not one of this model's {size} tokens")
    reads_row_before = manifest.profiles[profile].profile.include_audio_bos
    if reads_row_before and not manifest.front_end.bos_rows + len(ids.before):
        raise RequestError(
            f"prompt: nothing stands before the audio, and profile {profile!r} reduces the row there too "
            "(include_audio_bos); put a token before the audio or choose another profile"
        )


def _check_adapter_ids(manifest: Manifest, ids: PromptIds) -> None:
    """Refuse a prompt without what decides the strength of LoRA, or with it where nothing reads it."""
    folded, positions = manifest.decoder.folded_prompt, manifest.decoder.max_positions
    reads_adapter = manifest.decoder.has_prompt_adapter
    given = () if ids.adapter is None else tuple(ids.adapter.tolist())
    if folded and given != folded.adapter_ids:
        raise RequestError(
            f"prompt: this artifact answers {shown(folded.text)} alone, which was folded into its weights; "
            "give that prompt, or build without --fold-prompt"
        )
    if reads_adapter and not given:
        raise RequestError(
            "prompt ids: none for the prompt adapter, which decides the strength of LoRA; give them, too: "
            "PromptIds(before, after, adapter)"
        )
    if reads_adapter and len(given) > positions:
        raise RequestError(
            f"prompt: {len(given)} tokens are more than this model's {positions} positions; shorten it"
        )
    if given and not (folded or reads_adapter):
        raise RequestError("prompt ids: this model has no prompt adapter; leave out those for it")


def check_characters(manifest: Manifest, prompt: str) -> None:
    """Refuse a text that is far too long, before it is made into tokens.

    Raises:
        RequestError: more characters than `MOST_CHARACTERS` a position.
    """
    most = MOST_CHARACTERS * manifest.decoder.max_positions
    if len(prompt) > most:
        raise RequestError(
            f"prompt {shown(prompt, 30)}: {len(prompt)} characters are too long for this model's "
            f"{manifest.decoder.max_positions} positions; give at most {most}"
        )


def free_positions(manifest: Manifest) -> int:
    """How many prompt and answer may have together, beside the least audio that there is."""
    return manifest.decoder.max_positions - manifest.front_end.rows_around - 1


def check_room(manifest: Manifest, ids: PromptIds, max_new_tokens: int) -> None:
    """Refuse a prompt and an answer beside which the positions hold no audio at all.

    Raises:
        RequestError: the message names the prompt, max_new_tokens, or both.
    """
    text, positions, free = ids.num_text_rows, manifest.decoder.max_positions, free_positions(manifest)
    if text + max_new_tokens <= free:
        return
    if text > free:
        fault, remedy = f"prompt: {text} tokens", "shorten it"
    elif max_new_tokens > free:
        fault, remedy = f"max_new_tokens {max_new_tokens}", "ask for fewer tokens"
    else:
        fault = f"prompt: {text} tokens and max_new_tokens {max_new_tokens}"
        remedy = "shorten it or ask for fewer tokens"
    raise RequestError(f"{fault} leave no room for audio in this model's {positions} positions; {remedy}")


def length_limit(manifest: Manifest, sizes: AnswerSizes | None = None) -> CheckLength:
    """For `load_audio`, which then refuses a file that is too long before it has been decoded whole.

    Without `sizes` the limit is that of `check_audio`, with it that of `check_length`.
    """

    def check(place: str, seconds: float) -> None:
        samples = int(seconds * manifest.front_end.log_mel.sample_rate)
        _check_positions(manifest, place, samples, sizes)

    return check


def check_audio(manifest: Manifest, place: str, audio: Audio) -> None:
    """Refuse audio that gives no row, or more rows than the positions hold, whatever the request.

    Raises:
        AudioError: either of them; `place` says in the message where the audio comes from.
    """
    least, rate = manifest.front_end.shortest_samples, manifest.front_end.log_mel.sample_rate
    if len(audio.samples) < least:
        found = f"{place}: {audio.seconds * 1e3:.1f} ms give no audio token"
        raise AudioError(f"{found}; at least {math.ceil(1e4 * least / rate) / 10} ms are needed")
    _check_positions(manifest, place, len(audio.samples))


def check_length(manifest: Manifest, place: str, audio: Audio, sizes: AnswerSizes) -> None:
    """Refuse audio that gives no row, or more rows than the positions hold beside prompt and answer.

    Raises:
        AudioError: either of them; `place` says in the message where the audio comes from.
    """
    check_audio(manifest, place, audio)
    _check_positions(manifest, place, len(audio.samples), sizes)


def _check_positions(manifest: Manifest, place: str, samples: int, sizes: AnswerSizes | None = None) -> None:
    """Refuse more rows than the positions hold: all of them, or those beside a prompt and its answer.

    And audio of which a model's own processor would drop the end.
    """
    _check_clip(manifest, place, samples)
    rows, positions = manifest.front_end.decoder_rows(samples), manifest.decoder.max_positions
    free = positions - (sizes.text_rows + sizes.steps if sizes else 0)
    if rows <= free:
        return
    seconds, longest = samples / manifest.front_end.log_mel.sample_rate, manifest.front_end.seconds_of(free)
    beside, remedy = _beside(sizes) if sizes else ("", "")
    raise LongAudioError(
        f"{place}: {seconds:.1f} s take {rows} rows; {beside}this model's {positions} positions hold at most "
        f"{longest:.1f} s: cut the audio{remedy}"
    )


def _beside(sizes: AnswerSizes) -> tuple[str, str]:
    """What takes positions beside the audio, and how it could be less."""
    answer, fewer = f"max_new_tokens {sizes.max_new_tokens}", "ask for fewer tokens"
    if sizes.scored_tokens > sizes.max_new_tokens:
        answer, fewer = f"scored_text of {sizes.scored_tokens} tokens", "score a shorter text"
    return f"with {sizes.text_rows} of prompt and {answer} ", f" or {fewer}"


def _check_clip(manifest: Manifest, place: str, samples: int) -> None:
    """Refuse audio that is longer than the model hears, whatever its positions."""
    longest, rate = manifest.front_end.longest_samples, manifest.front_end.log_mel.sample_rate
    if longest is not None and samples > longest:
        raise LongAudioError(
            f"{place}: {samples / rate:.1f} s are more than this model hears at once, "
            f"{longest / rate:.1f} s: cut the audio"
        )


def limit_of(*checks: CheckLength) -> CheckLength:
    """All of these limits at once, for `load_audio`."""

    def check(place: str, seconds: float) -> None:
        for each in checks:
            each(place, seconds)

    return check


def at_most(longest: float | None) -> CheckLength:
    """For `load_audio` and `read_blocks`, which then refuse audio of more seconds; None: any is read."""

    def check(place: str, seconds: float) -> None:
        if longest is not None and seconds > longest:
            raise LongAudioError(
                f"{place}: at least {seconds:.1f} s; at most {longest:g} s are read: cut the audio"
            )

    return check


def ended_by(guard: Guard) -> CheckLength:
    """For `load_audio`, which then ends while it decodes if its request does; raises `RequestCancelled`."""

    def check(place: str, seconds: float) -> None:
        guard.check()

    return check


def check_engines(
    manifest: Manifest, limits: Engines, place: str, audio: Audio, ids: PromptIds, search: ResolvedSearch
) -> None:
    """Refuse what lies beyond the sizes that engines were built for.

    Raises:
        AudioError: the audio; `place` says in the message where it comes from.
        RequestError: text, beams or new tokens; all of them in one message.
    """
    if (rows := manifest.front_end.decoder_rows(len(audio.samples))) > limits.max_audio_rows:
        longest = manifest.front_end.seconds_of(limits.max_audio_rows)
        raise LongAudioError(
            f"{place}: {audio.seconds:.1f} s take {rows} rows; the engines were built for at most "
            f"{limits.max_audio_rows}, {longest:.1f} s: cut the audio, or build with more --max-audio-seconds"
        )
    if faults := list(_engine_faults(limits, ids, search)):
        raise RequestError(f"{'; '.join(faults)}: change the request, or build the engines for it")


def _length(ids: Ids | None) -> int:
    return 0 if ids is None else len(ids)


def _engine_faults(limits: Engines, ids: PromptIds, search: ResolvedSearch) -> Iterator[str]:
    sizes = {
        "num_beams": (search.num_beams, limits.max_beams, "--max-beams"),
        "max_new_tokens": (search.max_new_tokens, limits.max_new_tokens, "--max-new-tokens"),
        "text before the audio": (len(ids.before), limits.max_text_rows, "--max-text-rows"),
        "text after the audio": (len(ids.after), limits.max_text_rows, "--max-text-rows"),
        "text for the prompt adapter": (_length(ids.adapter), limits.max_text_rows, "--max-text-rows"),
    }
    for name, (size, most, option) in sizes.items():
        if size > most:
            yield f"{name}: {size} are more than the {most} that the engines were built for ({option})"
    for name, ids_there in (("before", ids.before), ("after", ids.after)):
        if not len(ids_there):
            yield f"no token stands {name} the audio, and the engines were built for at least 1"
