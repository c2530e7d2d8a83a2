"""Options of how an artifact is run and which profiles are meant, and what every command needs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ...profiles.errors import DependencyError, RequestError
from ...profiles.keys import POSITIONS
from ...runtime.backends import BACKENDS
from ...runtime.openvino.options import PRECISIONS
from ...runtime.runtime_options import DEFAULT_BACKEND, RuntimeKeywords, RuntimeOptions
from .command import Command, with_options
from .lists import NAMES, PROFILES, list_option

if TYPE_CHECKING:
    from ...runtime import Auto, SpeechLM
    from ...runtime.artifact.verification import Verify

BUDGETS = ("latency_budget", "accuracy_budget")


class AudioSeconds(click.FloatRange):
    """A length of audio above 0. What is no number is refused: to a range it is neither too small nor too
    large.
    """

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True, max=1e6)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that was typed."""
        found = float(super().convert(value, param, ctx))
        if math.isnan(found):
            self.fail(f"{value!r} is no number", param, ctx)
        return found


class AnyPath(click.Path):
    """A path. An empty one is refused, which would be the folder that the command is run in."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that was typed."""
        if value == "":
            self.fail("the path is empty; give one", param, ctx)
        return super().convert(value, param, ctx)


AUDIO_SECONDS = AudioSeconds()
PATH = AnyPath()


def refuse_given(ctx: click.Context, fields: Iterable[str], of: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        click.UsageError: with the flags of those that are given, and what they are of.
    """
    flags = {option.name: option.opts[0] for option in ctx.command.params}
    if given := [flags[it] for it in fields if ctx.get_parameter_source(it) is ParameterSource.COMMANDLINE]:
        raise click.UsageError(f"{', '.join(given)}: {of}")


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


def backend(command: Command) -> Command:
    """Add the choice of what runs an artifact."""
    return click.option(
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default=DEFAULT_BACKEND,
        show_default=True,
        help="What runs the artifact: onnxruntime and openvino on a CPU, onnxruntime-cuda and tensorrt on a "
        "GPU. The artifact must have been built for it (build --target, --engine).",
    )(command)


def runtime_options(command: Command) -> Command:
    """Add the options of how an artifact is run."""
    return backend(onnxruntime_options(precision_option(cuda_options(memory_limit(verify_option(command))))))


class Bytes(click.ParamType[int]):
    """A number of bytes with a unit: 500MB, 2GB, 1.5GiB."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes, a whole number."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]?)(i?)B", value)
        if not found or not (bytes_ := _bytes(*found.groups())):
            self.fail(
                f"{value!r} is no size with its unit: give one such as 500B, 500MB, 2GB or 1.5GiB", param, ctx
            )
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
    if values.get("precision"):
        given["precision"] = values["precision"]
    return given


def cuda_options(command: Command) -> Command:
    """Add those of ONNX Runtime on CUDA."""
    options = (
        device_option,
        click.option("--strict", is_flag=True, help="Refuse graphs of which a node falls back to the CPU."),
        click.option("--cuda-graph", is_flag=True, help="Capture decode steps and replay them; never tried."),
    )
    return with_options(command, options)


def device_option(command: Command) -> Command:
    """Add the device of the backend onnxruntime-cuda."""
    return click.option(
        "--device",
        metavar="NAME",
        help="Of onnxruntime-cuda: cuda, cuda:1, or cpu for the same graphs there.  [default: cuda]",
    )(command)


def precision_option(command: Command) -> Command:
    """Add the precision of the backend openvino."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        help="Of openvino: what encoder and prefill compute in.  [default: bf16]",
    )(command)


def onnxruntime_options(command: Command) -> Command:
    """Add those of ONNX Runtime."""
    options = (
        click.option(
            "--threads",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Threads of a run. 0: one per core, shared among the processes of --workers; in serve, "
            "transcribe and export-triton one per process.",
        ),
        list_option("--provider", "providers", NAMES, "ONNX Runtime providers, best first."),
        click.option(
            "--lean", is_flag=True, help="Keep one copy of the weights: less memory, slower beam steps."
        ),
    )
    return with_options(command, options)


def auto_options(command: Command) -> Command:
    """Add the budgets by which a profile is chosen."""
    options = (
        click.option(
            "--latency-budget",
            type=float,
            metavar="SECONDS",
            help="Of profile auto: the most accurate one whose prefill and decode take at most so long.",
        ),
        click.option(
            "--accuracy-budget",
            type=float,
            metavar="POINTS",
            help="Of profile auto: the fastest one accepted to lose at most so much.",
        ),
    )
    return with_options(command, options)


def auto_of(values: dict[str, Any]) -> Auto | None:
    """What a profile is to be chosen for; None where one is named, or the default is taken.

    Raises:
        click.UsageError: a budget, and a profile that is named.
        RequestError: no budget, two, or one that is out of range.
    """
    from ...runtime.choice.target import AUTO, Auto

    given = {name: values[name] for name in BUDGETS if values[name] is not None}
    if values["profile"] == AUTO:
        return Auto(**given)
    if flags := [f"--{name.replace('_', '-')}" for name in given]:
        raise click.UsageError(f"{', '.join(flags)}: a budget to choose a profile by; give --profile {AUTO}")
    return None


def refuse_auto(profiles: Iterable[str], why: str) -> None:
    """Refuse the word by which a profile is chosen where only named ones have a meaning; RequestError."""
    from ...runtime.choice.target import AUTO

    if AUTO in profiles:
        raise RequestError(f"profile {AUTO}: {why}; name profiles")


def budgets_of(values: dict[str, Any]) -> Auto | None:
    """What a profile is to be chosen for where requests do not say it; None: they must.

    Raises:
        RequestError: two budgets, or one that is out of range.
    """
    from ...runtime.choice.target import Auto

    given = {name: values[name] for name in BUDGETS if values[name] is not None}
    return Auto(**given) if given else None


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
