"""What requests are read against: the models, the prompts and the limits of one server."""

from __future__ import annotations

from dataclasses import dataclass

from ..models import Models
from .prompts import Prompts


@dataclass(frozen=True)
class Served:
    """What a server has and takes."""

    models: Models
    prompts: Prompts
    max_upload_bytes: int
    created: int  # when the artifact was built, in seconds since 1970
