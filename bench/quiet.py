"""Whether the machine is quiet enough to be timed: other work would be in the figures."""

from __future__ import annotations

import argparse
import os

MOST_LOAD = 2.0  # on average of the last minute; the measurements themselves take one or two cores


def add_option(parser: argparse.ArgumentParser) -> None:
    """`--busy`, for figures that nobody will compare."""
    parser.add_argument("--busy", action="store_true", help="measure although the machine is busy")


def refuse_busy(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End as for a wrong option where other work runs, unless it was said to measure nevertheless."""
    load = os.getloadavg()[0]
    if load > MOST_LOAD and not options.busy:
        parser.error(
            f"the load average is {load:.1f}, above {MOST_LOAD:g}: wait for other work, or give --busy"
        )
