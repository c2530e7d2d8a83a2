"""The tree that this script lies in as the packages `fastadasp.*`, where nothing of it is installed."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = "profiles", "plugins", "runtime", "evaluation", "export"


def provide_packages(folder: Path) -> None:
    """Make them importable, and known by name and version, in this process and in those that it starts.

    Args:
        folder: an empty one, which lives as long as the process.
    """
    (folder / "fastadasp").mkdir()
    for name in FOLDERS:
        (folder / "fastadasp" / name).symlink_to(ROOT / name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    information = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    lines = "Metadata-Version: 2.1", f"Name: {project['name']}", f"Version: {project['version']}"
    (information / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
    sys.path.insert(0, str(folder))
    others = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([others] if others else [])])


def commit() -> str | None:
    """The commit of the tree, with `-dirty` where files were changed; None where git does not tell."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return ran.stdout.strip() or None
