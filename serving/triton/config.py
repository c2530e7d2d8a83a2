"""The description of a model, `config.pbtxt`, as Triton's `ModelConfig` is written in text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...profiles.errors import RequestError
from ...profiles.faults import is_count, shown

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
MOST_INSTANCES = 64

_CONFIG = """\
# Speech in, text out: an artifact of fastadasp-export. The inputs of a request:
#   AUDIO           the bytes of a file of audio, or
#   AUDIO_BASE64    the same in Base64, for JSON over HTTP
#   PROMPT, SYSTEM  texts; without them those of the artifact
#   PROFILE         one of: {profiles}
#   NUM_BEAMS       more than 1 only where STREAM is false
#   MAX_NEW_TOKENS
#   STREAM          true, the default: a response for each piece of text; false: one response
# Each response has TEXT; the last one says in FINISH_REASON "stop" or "length".
name: {name}
backend: "python"
max_batch_size: 0  # requests are gathered inside the model
model_transaction_policy {{ decoupled: true }}

input [
  {{ name: "AUDIO"           data_type: TYPE_STRING  dims: [ 1 ]  optional: true }},
  {{ name: "AUDIO_BASE64"    data_type: TYPE_STRING  dims: [ 1 ]  optional: true }},
  {{ name: "PROMPT"          data_type: TYPE_STRING  dims: [ 1 ]  optional: true }},
  {{ name: "SYSTEM"          data_type: TYPE_STRING  dims: [ 1 ]  optional: true }},
  {{ name: "PROFILE"         data_type: TYPE_STRING  dims: [ 1 ]  optional: true }},
  {{ name: "NUM_BEAMS"       data_type: TYPE_INT32   dims: [ 1 ]  optional: true }},
  {{ name: "MAX_NEW_TOKENS"  data_type: TYPE_INT32   dims: [ 1 ]  optional: true }},
  {{ name: "STREAM"          data_type: TYPE_BOOL    dims: [ 1 ]  optional: true }}
]

output [
  {{ name: "TEXT"           data_type: TYPE_STRING  dims: [ 1 ] }},
  {{ name: "FINISH_REASON"  data_type: TYPE_STRING  dims: [ 1 ] }}
]

# Each instance is a process that loads the artifact.
instance_group [ {{ count: {instances}  kind: KIND_CPU }} ]

# The profile of requests that name none, and the keywords of SpeechLM.load.
parameters {{ key: "profile"  value {{ string_value: {profile} }} }}
parameters {{ key: "options"  value {{ string_value: {options} }} }}
"""


@dataclass(frozen=True)
class TritonModel:
    """What a model is called and how it is loaded. Raises RequestError with every fault."""

    name: str
    profile: str  # of requests that name none
    profiles: tuple[str, ...]  # of the artifact
    options: Mapping[str, Any]  # keywords of `SpeechLM.load`, with max_batch and max_queue
    instances: int = 1

    def __post_init__(self) -> None:
        faults = []
        if not NAME.fullmatch(self.name):
            faults.append(
                f"name {shown(self.name)}: a model is a folder, give up to 128 letters, digits, _, - and ."
            )
        if not is_count(self.instances, 1) or self.instances > MOST_INSTANCES:
            faults.append(f"instances is {shown(self.instances)}: give 1 to {MOST_INSTANCES}")
        if faults:
            raise RequestError("; ".join(faults))

    def config(self) -> str:
        """The text of `config.pbtxt`."""
        return _CONFIG.format(
            name=_quoted(self.name),
            profiles=" ".join(", ".join(self.profiles).split()),
            instances=self.instances,
            profile=_quoted(self.profile),
            options=_quoted(json.dumps(dict(self.options), sort_keys=True)),
        )


def _quoted(text: str) -> str:
    """A string of the text format: what is not printable ASCII is escaped, byte by byte."""
    quote = "'" if '"' in text else '"'
    special = {ord(quote), ord("\\")}
    return quote + "".join(_escaped(byte, special) for byte in text.encode()) + quote


def _escaped(byte: int, special: set[int]) -> str:
    if byte in special:
        return f"\\{chr(byte)}"
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"
