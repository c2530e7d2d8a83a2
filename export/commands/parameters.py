"""Options that commands share: their defaults are those of the records that they fill."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...evaluation.metrics.tasks import TASKS
from ...profiles.errors import DependencyError
from ...profiles.keys import POSITIONS
from ...runtime.backends import BACKENDS
from ...runtime.decoding.options import ResolvedSearch, SearchOptions
from ...runtime.runtime_options import DEFAULT_BACKEND, RuntimeKeywords, RuntimeOptions
from .command import Command
from .lists import NAMES, PROFILES, ids_option, list_option

if TYPE_CHECKING:
    from ...evaluation.clips.clip import ClipSet
    from ...runtime import SpeechLM
    from ...runtime.artifact.verification import Verify

PATH = click.Path(path_type=Path)
EARLY_STOPPING = {"false": False, "true": True, "never": "never"}

SEARCH: dict[str, tuple[str, Any, str]] = {
    "num_beams": ("--beams", int, "Beams; 1 is greedy search."),
    "max_new_tokens": ("--max-new-tokens", int, "Stop after so many tokens."),
    "min_new_tokens": ("--min-new-tokens", int, "No end token before so many tokens."),
    "length_penalty": ("--length-penalty", float, "Exponent of the length that divides a score."),
    "early_stopping": (
        "--early-stopping",
        click.Choice(list(EARLY_STOPPING)),
        "When beam search stops: if no live beam can win, as soon as enough have ended, or at the very end.",
    ),
    "repetition_penalty": ("--repetition-penalty", float, "Above 1: make tokens that were seen less likely."),
    "no_repeat_ngram_size": ("--no-repeat-ngram-size", int, "Ban n-grams that were generated before."),
    "num_return_sequences": ("--num-return-sequences", int, "Answers to return, at most the beams."),
}
"""Field of `SearchOptions` -> flag, type, help."""
SEARCH_IDS: dict[str, tuple[str, str]] = {
    "eos_token_ids": ("--eos", "Token ids that end an answer."),
    "suppress_tokens": ("--suppress-tokens", "Token ids that are never generated."),
    "begin_suppress_tokens": ("--begin-suppress-tokens", "Token ids that no answer begins with."),
}
"""Field of `SearchOptions` that holds token ids -> flag, help."""


def exact(ctx: click.Context, param: click.Parameter, value: float | None) -> Fraction | None:
    """A callback that takes a number as it was typed, if it was: 0.1 is one tenth."""
    return None if value is None else Fraction(repr(value))


def clip_options(command: Command) -> Command:
    """Add the options of `read_clips`: what clips with references are there, and which of them are meant."""
    options = (
        click.option(
            "--manifest",
            type=PATH,
            required=True,
            metavar="FILE",
            help="Clips, one JSON object per line; or a folder of audio and .txt transcripts.",
        ),
        click.option(
            "--audio-root",
            type=PATH,
            metavar="DIR",
            help="Where audio paths begin.  [default: the clip list's]",
        ),
        click.option(
            "--task", type=click.Choice(list(TASKS)), help="Which clips.  [default: all, if of one task]"
        ),
        click.option(
            "--prompt", default="", metavar="TEXT", help="Text of the requests that have none of their own."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def reference_option(command: Command) -> Command:
    """Add the length of audio for which FLOPs levels are met."""
    return click.option(
        "--reference-seconds",
        type=click.FloatRange(min=0, min_open=True, max=1e6),
        callback=exact,
        metavar="S",
        help="Length of audio for which ratios are solved.  [default: the mean of the clips]",
    )(command)


def lora_option(command: Command) -> Command:
    """Add the adapter that the weights of a checkpoint are changed by."""
    return click.option(
        "--lora", type=PATH, metavar="DIR", help="Adapter of peft (LoRA) that is folded into the weights."
    )(command)


def positions_option(command: Command) -> Command:
    """Add what becomes of the positions of rows when others go."""
    return click.option(
        "--positions",
        type=click.Choice(POSITIONS),
        default=POSITIONS[0],
        show_default=True,
        help="Whether rows close up after a reduction, or stay where they were.",
    )(command)


def search_options(command: Command) -> Command:
    """Add the options of a search: what is not given is left to the artifact."""
    for field, (flag, text) in reversed(SEARCH_IDS.items()):
        command = ids_option(flag, field, text)(command)
    for field, (flag, kind, text) in reversed(SEARCH.items()):
        default = ResolvedSearch.__dataclass_fields__[field].default
        shown = f"the artifact's, or {str(default).lower() if isinstance(default, bool) else default}"
        command = click.option(flag, field, type=kind, show_default=shown, help=text)(command)
    return command


def search_of(values: dict[str, Any]) -> SearchOptions:
    """The search that the values of a command ask for.

    Raises:
        RequestError: with every value that is out of range.
    """
    options = {field: values[field] for field in (*SEARCH, *SEARCH_IDS)}
    if options["early_stopping"] is not None:
        options["early_stopping"] = EARLY_STOPPING[options["early_stopping"]]
    return SearchOptions(**options)


def say_search(asked: SearchOptions, meant: SearchOptions) -> None:
    """A line on the options of a search that come from the checkpoint, not from the command."""
    plain = asked.resolved()
    taken = {name: value for name, value in meant.given.items() if value != getattr(plain, name)}
    if taken:
        words = ", ".join(f"{name} {value}" for name, value in taken.items())
        click.echo(f"search as the checkpoint has it: {words}", err=True)


def backend(command: Command) -> Command:
    """Add the choice of what runs an artifact."""
    return click.option(
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="What runs the artifact: graphs for it, or engines, with a GPU for all but onnxruntime.",
    )(command)


def clips_of(values: dict[str, Any]) -> ClipSet:
    """The clips that those options mean.

    Raises:
        ClipsError: with every fault of the clip list.
    """
    from ...evaluation.clips.read import read_clips

    return read_clips(
        values["manifest"], values["task"], audio_root=values["audio_root"], prompt=values["prompt"]
    )


def runtime_options(command: Command) -> Command:
    """Add the options of how an artifact is run."""
    return backend(onnxruntime_options(cuda_options(memory_limit(verify_option(command)))))


class Bytes(click.ParamType[int]):
    """A number of bytes with a unit: 500MB, 2GB, 1.5GiB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, a whole number."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]?)(i?)B", value)
        if not found or not (bytes_ := _bytes(*found.groups())):
            self.fail(f"{value!r} is no size in bytes: give one such as 500MB, 2GB or 1.5GiB", param, ctx)
        return bytes_


def _bytes(number: str, prefix: str, binary: str) -> int:
    return int(Fraction(number) * (1024 if binary else 1000) ** ("kMGT".index(prefix) + 1 if prefix else 0))


def memory_limit(command: Command) -> Command:
    """Add what a request may take beside the loaded model."""
    return click.option(
        "--max-request-memory",
        type=Bytes(),
        metavar="SIZE",
        help="Refuse requests that might add more than SIZE (2GB) to the loaded model.  [default: no limit]",
    )(command)


def batch_option(command: Command) -> Command:
    """Add how many requests run at once in a loaded model."""
    return click.option(
        "--max-batch",
        type=int,
        default=RuntimeOptions.max_batch,
        show_default=True,
        help="Requests that run at once in a process, and share decode steps where the backend can.",
    )(command)


def verify_option(command: Command) -> Command:
    """Add when large files of an artifact are hashed."""
    return click.option(
        "--verify/--no-verify",
        default=None,
        help="Hash files over 64 MiB now, or not at all.  [default: once on this machine, and when changed]",
    )(command)


def verify_of(flag: bool | None) -> Verify:
    """What that option means; None where it was not given."""
    if flag is None:
        return "cached"
    return "always" if flag else "never"


def backend_options_of(values: dict[str, Any]) -> RuntimeKeywords:
    """The options of a backend that a command was given, by the names that they have in Python."""
    # a command answers one request after the other, but for segments
    given: RuntimeKeywords = {"max_batch": values.get("at_once") or 1}
    if values.get("threads"):
        given["threads"] = values["threads"]
    if values.get("providers"):
        given["providers"] = values["providers"]
    if values.get("lean"):
        given["prepack"] = False
    if values.get("max_request_memory"):
        given["max_request_bytes"] = values["max_request_memory"]
    if values.get("max_batch") is not None:
        given["max_batch"] = values["max_batch"]
    if values.get("device"):
        given["device"] = values["device"]
    if values.get("strict"):
        given["strict"] = True
    if values.get("cuda_graph"):
        given["cuda_graph"] = True
    return given


def cuda_options(command: Command) -> Command:
    """Add those of ONNX Runtime on CUDA."""
    options = (
        device_option,
        click.option("--strict", is_flag=True, help="Refuse graphs of which a node falls back to the CPU."),
        click.option("--cuda-graph", is_flag=True, help="Capture decode steps and replay them; never tried."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def device_option(command: Command) -> Command:
    """Add the device of the backend onnxruntime-cuda."""
    return click.option(
        "--device",
        metavar="NAME",
        help="Of onnxruntime-cuda: cuda, cuda:1, or cpu for the same graphs there.  [default: cuda]",
    )(command)


def onnxruntime_options(command: Command) -> Command:
    """Add those of ONNX Runtime."""
    options = (
        click.option(
            "--threads", type=click.IntRange(min=0), default=0, help="Threads of a run; 0 takes one per core."
        ),
        list_option("--provider", "providers", NAMES, "ONNX Runtime providers, best first."),
        click.option(
            "--lean", is_flag=True, help="Keep one copy of the weights: less memory, slower beam steps."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def load(artifact: Path, **values: Any) -> SpeechLM:
    """Load an artifact as the options of a command say."""
    from ...runtime import SpeechLM

    return SpeechLM.load(
        artifact,
        values.get("profile"),
        backend=values["backend"],
        verify=verify_of(values["verify"]),
        **backend_options_of(values),
    )


def profile_options(command: Command) -> Command:
    """Add the choice of profiles to build."""
    option = list_option("--profile", "profiles", PROFILES, "Profiles, or .toml files.", required=True)
    return option(profile_folders(command))


def profile_folders(command: Command) -> Command:
    """Add the option for folders of profiles."""
    return click.option(
        "--profiles-folder",
        "folders",
        multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        metavar="DIR",
        help="Find profiles by name in DIR/NAME.toml, too; repeatable.",
    )(command)


def require(*packages: str, extra: str = "export") -> None:
    """Refuse to go on without some packages of an extra of this distribution.

    Raises:
        DependencyError: some are missing.
    """
    require_all({extra: packages})


def require_all(needed: Mapping[str, Iterable[str]]) -> None:
    """As `require`, of several extras: all that is missing is named at once.

    Raises:
        DependencyError: some are missing.
    """
    missing = {
        extra: found
        for extra, packages in needed.items()
        if (found := [name for name in packages if find_spec(name) is None])
    }
    if missing:
        names = [name for found in missing.values() for name in found]
        raise DependencyError(
            f"{', '.join(names)} is not installed; this command needs the packages of "
            f'{" and ".join(missing)}: pip install "fastadasp-export[{",".join(missing)}]"'
        )
