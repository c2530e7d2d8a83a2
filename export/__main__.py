"""The program, also as `python -m fastadasp.export`: quiet when Ctrl-C ends it while it is being imported."""

import sys

from .signals import INTERRUPTED


def main() -> None:
    """Run the command line."""
    try:
        from .cli import main as commands
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    commands(prog_name="fastadasp-export")


if __name__ == "__main__":
    main()
