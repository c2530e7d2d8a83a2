"""What holds sessions: it lives in the process that loaded it, and has no copy."""

from __future__ import annotations

from typing import NoReturn

from ..profiles.errors import RequestError


class Uncopied:
    """Base of what neither `copy` nor `pickle` take: its sessions belong to a process."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse.

        Raises:
            RequestError: always.
        """
        raise RequestError(
            f"{type(self).__name__}: a loaded model is neither copied nor pickled; share it between threads, "
            "and in another process load the artifact there"
        )
