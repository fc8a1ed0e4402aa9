"""Errors of the platform; `exit_code` is what a job ends with when the error reaches it."""

from __future__ import annotations

from d3ke.errors import D3KEError


class UsageError(D3KEError):
    """The user asked for something that cannot be done as asked: a job ends with exit code 2."""

    exit_code = 2


class SchemaVersionError(UsageError):
    """A folder written by another version of the data format."""

    def __init__(self, what: str, found: object, supported: int) -> None:
        super().__init__(
            f"{what} has data format version {found!r}, this program reads version {supported}. "
            "Prepare it again into another --output, or use the program version that wrote it."
        )
        self._arguments = (what, found, supported)


class UnwritableError(UsageError):
    """An output location that cannot be created or written."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"Cannot write to {uri}: {reason}. Choose another --output.",
        )
        self._arguments = (uri, reason)


class ChildCrashedError(D3KEError):
    """The child process of an isolated object died: a crash in native code or out of memory."""

    def __init__(self, what: str, exit_status: int | None) -> None:
        cause = f"signal {-exit_status}" if exit_status and exit_status < 0 else f"{exit_status}"
        super().__init__(
            f"{what}: its process died ({cause}); a crash in native code or lack of memory."
        )
        self._arguments = (what, exit_status)


class ChildTimeoutError(D3KEError):
    """An isolated call took longer than its limit and its process was ended."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what}: no answer within {timeout_s:g} s; its process was ended.")
        self._arguments = (what, timeout_s)


class ChildMemoryError(D3KEError):
    """An isolated call needed more memory than its process is allowed."""

    def __init__(self, what: str, limit_gb: float) -> None:
        super().__init__(f"{what}: needs more than the {limit_gb:g} GB of memory it may take.")
        self._arguments = (what, limit_gb)
