"""What could not be processed, as rows of the REJECTS table."""

from __future__ import annotations

from datetime import UTC, datetime

from d3ke.errors import D3KEError


def reject_row(item: str, stage: str, reason: str, trace: str = "") -> dict[str, str]:
    """A row of the REJECTS table."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"item": item, "stage": stage, "reason": reason, "traceback": trace, "time_utc": now}


def error_reason(error: BaseException) -> str:
    """What an error says; its type as well where it is not one of ours."""
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, D3KEError) else f"{type(error).__name__}: {text}"
