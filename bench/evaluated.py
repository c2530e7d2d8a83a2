"""What scripts share that run commands of the project, and put what comes out into a page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fastadasp.runtime.artifact.hashing import sha256

ROOT = Path(__file__).parent.parent
END = "<!-- end -->"
CHECKPOINTS = "checkpoints.json"  # beside results: by model, the SHA-256 of the weights that they are of


def run(words: Sequence[str], output: Path | None = None) -> None:
    """Have this Python run a script or module from the root of the repository.

    Args:
        output: the result file that it writes, if it does.

    Raises:
        SystemExit: it has ended with a fault; single clips that failed, which a result lists, are none.
    """
    before = _written(output)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
    if done.returncode not in (0, 1) or (done.returncode and _written(output) == before):
        raise SystemExit(done.returncode)


def _written(path: Path | None) -> int | None:
    """When, if it is there."""
    return path.stat().st_mtime_ns if path and path.is_file() else None


def hold_to_checkpoints(results: Path, models: Mapping[str, Path], files: str = "{}.*") -> None:
    """See that the results of these models are of these checkpoints, and note what those to come are of.

    Args:
        results: their folder.
        models: name -> folder of the checkpoint, which may be missing.
        files: what results of a model are called, `{}` being its name.

    Raises:
        SystemExit: some are of others, or it is not noted of which.
    """
    results.mkdir(parents=True, exist_ok=True)
    notes = results / CHECKPOINTS
    noted = json.loads(notes.read_text("utf-8")) if notes.is_file() else {}
    weights = {name: folder / "model.safetensors" for name, folder in models.items()}
    found = {name: sha256(file) for name, file in weights.items() if file.is_file()}
    alike = {name for name in found if noted.get(name) == found[name]}
    patterns = [files.format(name) for name in sorted(models.keys() - alike)]
    if others := [each for each in patterns if {*results.glob(each)} - {notes}]:
        shown = ", ".join(f"{name_of(results)}/{each}" for each in others)
        raise SystemExit(
            f"{shown}: not known to be of the checkpoints to measure; remove them to measure these"
        )
    notes.write_text(json.dumps({**noted, **found}, indent=1) + "\n", "utf-8")


def names_of(results: Path) -> set[str]:
    """The models that have results in a folder."""
    return {path.name.split(".")[0] for path in results.glob("*.*.json")}


def name_of(path: Path) -> str:
    """From the root of the repository, for what lies in it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def table_row(*cells: str) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def placed(page: str, begin: str, content: str) -> str:
    """A page with the content behind its mark `begin`, and before the next `END`."""
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(END)
    assert after, f"the page lacks its marks {begin} and {END}"
    return f"{before}{begin}\n{content}\n{END}{after}"
