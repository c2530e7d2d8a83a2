"""Words as captioning metrics count them: the Penn Treebank tokenizer inside pycocoevalcap, run by Java.

Program and list of punctuation are those of `pycocoevalcap.tokenizer`, which itself would write into the
folder of installed packages, take the encoding from the locale, and split captions at any kind of line break.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from ...profiles.errors import DependencyError

PROGRAM = ("edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
END = "endofcaptions"  # a last line that is not empty, so that none is lost


def ptb_tokens(captions: Sequence[str]) -> list[str]:
    """Each caption in lower case, its tokens but for punctuation joined by spaces.

    Raises:
        DependencyError: Java does not run the tokenizer.
    """
    from pycocoevalcap.tokenizer import ptbtokenizer

    jar = Path(ptbtokenizer.__file__).parent / ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR
    lines = [" ".join(caption.split()) for caption in captions]
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), *PROGRAM]
    ran = subprocess.run(
        command, input="\n".join((*lines, END, "")).encode(), capture_output=True, check=False
    )
    tokens = ran.stdout.decode("utf-8", "replace").split("\n")
    if ran.returncode or tokens[len(lines) : len(lines) + 1] != [END]:
        reason = ran.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise DependencyError(f"captions: java does not run the tokenizer ({' '.join(reason)}); mend Java")
    punctuation = set(ptbtokenizer.PUNCTUATIONS)
    return [
        " ".join(word for word in line.split() if word not in punctuation) for line in tokens[: len(lines)]
    ]
