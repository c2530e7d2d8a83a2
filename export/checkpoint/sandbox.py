"""Renders a chat template of a checkpoint in a process of its own, bounded in time, memory and output.

Run as a script, it reads a job from stdin and writes what came out to stdout, both as JSON; it imports
nothing of this project. Templates find what they find in transformers: its options, filters and functions.
"""

import json
import resource
import sys
from typing import Any, NoReturn

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 2
MEMORY = 2**30  # bytes of address space
LONGEST = 10**6  # characters of one text
FAULTS = (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What a template may raise by itself: it does not fit the messages."""


class Generation(Extension):
    """`{% generation %}` marks what an assistant has said; it changes nothing of the text."""

    tags = {"generation"}  # noqa: RUF012  # as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body alone."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def main() -> None:
    """One template, many conversations: a text for each, or why there is none."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    job = json.load(sys.stdin)
    try:
        texts = list(_render(_environment(), job["template"], job["variables"], job["conversations"]))
    except TemplateSyntaxError as error:
        json.dump({"refused": f"line {error.lineno}: {error.message}"}, sys.stdout)
    except SecurityError as error:
        json.dump({"refused": f"it reaches out of its sandbox: {error}"}, sys.stdout)
    except MemoryError:
        json.dump(
            {"refused": f"it needs more than {MEMORY // 2**20} MB, or writes a longer text"}, sys.stdout
        )
    else:
        json.dump({"texts": texts}, sys.stdout)


def _render(environment: Environment, source: str, variables: Any, conversations: Any) -> Any:
    template = environment.from_string(source)
    for messages in conversations:
        try:
            pieces, length = [], 0
            for piece in template.generate(**variables, messages=messages):
                pieces.append(piece)
                length += len(piece)
                if length > LONGEST:
                    raise MemoryError
            yield {"text": "".join(pieces)}
        except SecurityError:
            raise
        except FAULTS as error:
            yield {"fault": f"{type(error).__name__}: {error}"}


def _environment() -> Environment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _no_date
    return environment


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes for HTML that the filter of jinja2 adds."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _no_date(_: object) -> NoReturn:
    raise TemplateError("it writes the date of the request, which a build does not know")


if __name__ == "__main__":
    main()
