"""A look at a source's input before hours are spent on it: found, missing, broken."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from d3ke_platform.errors import UsageError
from d3ke_platform.pipelines.prepare_settings import PrepareSettings
from d3ke_platform.sources import InputCheck

_log = logging.getLogger(__name__)


def check_input(settings: PrepareSettings) -> InputCheck:
    """Check the input of the settings' source and log it, a line each. Needs no Ray.

    Raises UsageError for a source that has nothing to check or a folder that is not there,
    InvalidInputError for files that contradict each other.
    """
    check = getattr(settings.build_source(), "check", None)
    if check is None:
        raise UsageError(f"--check: the source {settings.source} has no such check. Leave it out.")
    report: InputCheck = check()
    for line in _lines(report):
        _log.info("%s", line)
    return report


def _lines(report: InputCheck) -> Iterator[str]:
    yield "found " + ", ".join(f"{number} {kind}" for kind, number in report.found.items())
    yield from (f"missing {kind}: {what}" for kind, what in report.missing.items())
    yield from (f"left out: {who} ({why})" for why, who in report.skipped.items())
    yield from (f"broken: {problem}" for problem in report.problems)
    yield from (f"get {where}" for where in report.get)
    yield "usable" if report.usable else "nothing usable"
