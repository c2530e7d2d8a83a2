"""A reduction profile: data that says what is reduced, where and by how much, read from TOML."""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from .errors import ProfileError
from .faults import path_of, shown
from .keys import COMPACT, KEPT, KEYS, exact_number, faults_of, read_table
from .methods import FULL, METHODS, Method, Sums

SEED_STRIDE = 1009  # above any number of layers, so that seeds do not overlap
BUILTIN_FOLDER = Path(__file__).parent / "builtin"


@dataclass(frozen=True)
class Profile:
    """What is reduced, where and by how much; layers count from 0.

    Raises:
        ProfileError: values out of range, or settings that exclude each other; all faults in one message.
    """

    name: str
    method: str
    schedule: str = "single"
    start_layer: int = 0
    ratio: Fraction | None = None  # share of audio rows, or of a cache, that one reduction removes
    flops_reduction: Fraction | None = None  # or the share of the prefill FLOPs to remove, in (0, 1)
    reference_audio_seconds: Fraction = Fraction(30)  # audio for which `flops_reduction` is solved
    reference_text_tokens: int = 20
    include_audio_bos: bool = False  # the span starts one row before the audio frames
    positions: str = COMPACT  # rows close up after a reduction; or "kept": they stay where they were
    fastv_score: str = "all_queries"  # the attention rows that `fastv` sums: all of them, or "last_query"
    segments: int = 10  # of equal length, in each of which `segment_evict` keeps as many rows
    seed: int = 0  # of the random methods

    def __post_init__(self) -> None:
        _raise_faults(self.name, "", faults_of(self.name, _given(self)))

    @property
    def traits(self) -> Method:
        """What is known about its method, with the score that this profile chooses."""
        method = METHODS[self.method]
        return method.scored_by(Sums(getattr(self, method.score_key))) if method.score_key else method

    @property
    def row_positions(self) -> str | None:
        """`positions` of the rows that are left, also where the method decides; None without reduction."""
        if not self.traits.reduces:
            return None
        return KEPT if self.traits.is_of_caches else self.positions


def layer_seed(profile: Profile, layer: int) -> int:
    """The seed of a random method in one layer, or at the input: every place draws its own numbers."""
    return profile.seed * SEED_STRIDE + layer


def builtin_names() -> tuple[str, ...]:
    """The profiles that come with the package, `full` first."""
    names = (path.stem for path in BUILTIN_FOLDER.glob("*.toml"))
    return tuple(sorted(names, key=lambda name: (name != FULL, name)))


def load_profile(name_or_path: str, folders: Sequence[Path] = ()) -> Profile:
    """Load a built-in profile by name, a `.toml` file by path, or `NAME.toml` from one of `folders`.

    Raises:
        ProfileError: an unknown or ambiguous name, a file that cannot be read, or faults in it.
    """
    path = profile_file(name_or_path, folders)
    return parse_profile(_read(path), path.stem, str(path))


def profile_file(name_or_path: str, folders: Sequence[Path] = ()) -> Path:
    """The file that `load_profile` reads.

    Raises:
        ProfileError: an unknown or ambiguous name.
    """
    if name_or_path == "":
        raise ProfileError("profile '' is empty: give a name or the path of a .toml file")
    name_or_path = str(path_of("profile", name_or_path, "a name or the path of a .toml file", ProfileError))
    return Path(name_or_path) if _is_path(name_or_path) else _find(name_or_path, _paths(folders))


def load_profiles(names_or_paths: Sequence[str], folders: Sequence[Path] = ()) -> tuple[Profile, ...]:
    """Load several profiles as `load_profile` does.

    Raises:
        ProfileError: the faults of all of them in one message.
    """
    paths = _paths(folders)
    stems = {path.stem for path in paths}
    unknown = [name for name in names_or_paths if not _is_path(name) and name not in stems]
    found, faults = list[Profile](), [_unknown(unknown, paths)] if unknown else []
    for name in names_or_paths:
        try:
            found += [load_profile(name, folders)] if name not in unknown else []
        except ProfileError as error:
            faults.append(str(error))
    if faults:
        raise ProfileError("; ".join(faults))
    return tuple(found)


def parse_profile(text: str, name: str, place: str) -> Profile:
    """Read the profile `name` from TOML `text`; `place` tells in messages where the text comes from.

    Numbers are exact: 0.29 is 29/100, and a string such as "1/3" is a fraction.

    Raises:
        ProfileError: every fault of the text in one message.
    """
    for what, given_text in (("text", text), ("name", name), ("place", place)):
        if not isinstance(given_text, str):
            raise ProfileError(f"{what} of a profile is {shown(given_text)}: give a text")
    try:
        table = tomllib.loads(text, parse_float=exact_number)
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"profile {name!r} in {place}: not valid TOML: {error}") from error
    given, faults = read_table(table)
    # `Profile` checks its values again, but cannot tell a default that was written from one that was not
    _raise_faults(name, f" in {place}", [*faults, *faults_of(name, given)])
    return Profile(name=name, **given)


def profile_to_toml(profile: Profile) -> str:
    """The TOML that `parse_profile` reads back as exactly `profile`; defaults are left out."""
    lines = (f"{KEYS[field].name} = {KEYS[field].show(value)}" for field, value in _given(profile).items())
    return "\n".join(lines) + "\n"


def _given(profile: Profile) -> dict[str, Any]:
    """The fields of `profile`, but for its name, that differ from their defaults."""
    values = ((field, getattr(profile, field.name)) for field in fields(profile) if field.name != "name")
    return {
        field.name: value for field, value in values if field.default is MISSING or value != field.default
    }


def _raise_faults(name: str, place: str, faults: Iterable[str]) -> None:
    if found := list(faults):
        raise ProfileError(f"profile {name!r}{place}: {'; '.join(found)}")


def _is_path(name_or_path: str) -> bool:
    return name_or_path.endswith(".toml") or Path(name_or_path).name != name_or_path


def _paths(folders: Sequence[Path]) -> list[Path]:
    """The files of all profiles that have a name, built in or in one of `folders`."""
    if isinstance(folders, str | bytes) or not isinstance(folders, Sequence):
        raise ProfileError(f"folders is {shown(folders)}: give a list of folders")
    folders = [path_of("folder of profiles", each, "the path of a folder", ProfileError) for each in folders]
    try:
        places = dict.fromkeys(folder.resolve() for folder in (BUILTIN_FOLDER, *folders))
        return [path for folder in places for path in sorted(folder.glob("*.toml"))]
    except OSError as error:
        raise ProfileError(f"folder of profiles {error.filename} cannot be read: {error.strerror}") from error


def _unknown(names: Sequence[str], paths: Sequence[Path]) -> str:
    known = ", ".join(dict.fromkeys([*builtin_names(), *(path.stem for path in paths)]))
    given = ", ".join(map(repr, names))
    return f"profile {given} is unknown: give a path that ends with .toml, or one of {known}"


def _find(name: str, paths: Sequence[Path]) -> Path:
    """The file of the profile `name` among those of all; a name must be in one place only."""
    found = [path for path in paths if path.stem == name]
    if not found:
        raise ProfileError(_unknown([name], paths))
    if len(found) > 1:
        raise ProfileError(
            f"profile {name!r} is ambiguous: rename or remove one of {', '.join(map(str, found))}"
        )
    return found[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ProfileError(f"profile file {path} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise ProfileError(f"profile file {path} is a folder: give a .toml file") from error
    except OSError as error:
        why = f"{error.strerror}; check its permissions and the disk"
        raise ProfileError(f"profile file {path} cannot be read: {why}") from error
    except ValueError as error:
        raise ProfileError(f"profile file {path} cannot be read: {error}") from error
