"""The command line, each process of which answers so many clips and waits: `held_command.py CLIPS WORDS...`.

A test that stops it behind a certain clip cannot come too late.
"""

import itertools
import sys
import time
from typing import Any

from fastadasp.evaluation.answers import workers

MOST = int(sys.argv[1])
answer_clip, count = workers.answer_clip, itertools.count()


def held(*arguments: Any) -> Any:
    """In the place of `answer_clip`, in worker processes as well: they import this file, too."""
    if next(count) >= MOST:
        time.sleep(600)
    return answer_clip(*arguments)


workers.answer_clip = held

if __name__ == "__main__":
    from fastadasp.export.cli import main

    main(sys.argv[2:])
