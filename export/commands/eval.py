"""`fastadasp-export eval`: what the profiles of an artifact cost in accuracy, with intervals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from .command import StrictCommand
from .evaluation_parameters import (
    budget_of,
    budget_options,
    check_budget,
    clip_options,
    clips_of,
    evaluation_of,
    evaluation_options,
    least_recordings_option,
    require_metrics,
    untimed_options,
)
from .lists import NAMES, each_once, list_option
from .output import (
    check_output,
    check_restart,
    kept_beside,
    shown_at_the_end,
    telling_what_is_kept,
    write_result,
)
from .parameters import PATH, runtime_options, verify_of
from .progress import progress_bar
from .search_parameters import say_search, search_options


@click.command("eval", cls=StrictCommand, short_help="Measure what profiles cost in accuracy.")
@click.argument("artifact", type=PATH)
@clip_options
@list_option(
    "--profile",
    "profiles",
    NAMES,
    "Profiles; the first is what the others are compared with.",
    otherwise="all of the artifact",
    arrange=each_once,
)
@budget_options
@least_recordings_option
@untimed_options
@evaluation_options
@search_options("artifact")
@runtime_options
@click.option("--restart", is_flag=True, help="Forget the answers of a run that was stopped.")
@click.option(
    "-o", "--output", type=PATH, metavar="FILE", help="Write figures, failures and every answer as JSON."
)
@click.pass_context
def evaluate(ctx: click.Context, /, artifact: Path, output: Path | None, **values: Any) -> None:
    """Measure the answers of ARTIFACT to clips with references, under each profile.

    asr: WER, CER; translate: BLEU, chrF; classify: accuracy, macro F1; caption: CIDEr, SPICE, SPIDEr; qa:
    exact match. Tables go to stdout. With -o, answers are kept in FILE.journal.jsonl until FILE is written:
    the same command goes on where it was stopped. Exits with 1 if a clip failed.

    With a budget, exits with 1 unless every profile is shown to be within it, against the first one, which
    reduces nothing: the upper end of the paired 95 % interval of its loss is compared, not the loss itself.
    Where that end is beyond the budget, recordings are few, or the first profile hardly answers (its answers
    are cut off, or no better than empty ones), it says that it cannot tell.
    """
    options = replace(
        evaluation_of(values), max_loss=budget_of(values), least_recordings=values["least_recordings"]
    )
    check_restart(values["restart"], output)
    from ...evaluation.answers.journal import journal_of
    from ...evaluation.clips.files import files_of

    clips = clips_of(values)
    check_output(output, (artifact, *files_of(clips)), (journal_of,))
    check_budget(values, clips)
    require_metrics(clips, options)
    from ...evaluation import evaluation as accuracy
    from ...evaluation.gate.gate import judged
    from ...evaluation.gate.table import gate_lines
    from ...evaluation.result import evaluation_result
    from ...evaluation.table import evaluation_sections

    kept = kept_beside(output)
    journal = None if kept is None else journal_of(kept)
    with telling_what_is_kept(journal), progress_bar("load") as tick:
        found = accuracy.evaluate(
            artifact,
            clips,
            options,
            tick,
            journal=journal,
            restart=values["restart"],
            verify=verify_of(values["verify"]),
        )
    say_search(options.search, found.options.search)
    result = evaluation_result(found)
    verdicts = tuple(judged(result))
    with shown_at_the_end() as tables:
        tables += evaluation_sections(found), gate_lines(result, verdicts)
        if options.max_loss is not None and not found.measured:
            tables.append(["FAIL: no clip was answered under every profile, so there is no figure to judge"])
        if output is not None:
            write_result(output, result)
            if journal is not None:
                journal.unlink(missing_ok=True)  # another run may have begun and ended since
            click.echo(f"results in {output}", err=True)
    is_open = all(each.verdict.is_accepted for each in verdicts)
    ctx.exit(0 if is_open and not found.failures else 1)
