"""What scripts share that run commands of the project, and put what comes out into a page."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
END = "<!-- end -->"


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
