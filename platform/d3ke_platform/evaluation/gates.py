"""What has to hold, what was measured, and whether it does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from d3ke_platform.evaluation.label_quality import LabelQuality

Status = Literal["pass", "falls short", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One requirement: `measured` against `limit`, in `unit`."""

    name: str
    limit: float
    measured: float | None
    """None: could not be measured, `note` says why."""
    unit: str
    at_most: bool = True
    """Whether the limit is an upper one."""
    note: str = ""

    @property
    def status(self) -> Status:
        """NaN counts as not measured."""
        if self.measured is None or math.isnan(self.measured):
            return "not measured"
        held = self.measured <= self.limit if self.at_most else self.measured >= self.limit
        return "pass" if held else "falls short"

    @property
    def requirement(self) -> str:
        """The limit as text."""
        return f"{'≤' if self.at_most else '≥'} {number(self.limit)} {self.unit}".strip()

    @property
    def value(self) -> str:
        """The measured value as text."""
        if self.measured is None or math.isnan(self.measured):
            return "–"
        return f"{number(self.measured)} {self.unit}".strip()

    def to_json(self) -> dict[str, Any]:
        """All fields and the status."""
        return asdict(self) | {"status": self.status}


def number(value: float) -> str:
    """Three significant digits, without an exponent for everyday sizes."""
    if value == 0 or 1e-2 <= abs(value) < 1e5:
        digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.2g}"


def label_gates(quality: LabelQuality | None) -> list[Gate]:
    """Marker RMS of the worst subject, and the share of markers beyond 2 cm."""
    worst = max(quality.summary.marker_rms_mm_by_subject.values()) if quality else None
    return [
        Gate(
            name="Labels: marker RMS of the worst subject",
            limit=10.0,
            measured=worst,
            unit="mm",
        ),
        Gate(
            name="Labels: marker-frames beyond 20 mm",
            limit=7.0,
            measured=100 * quality.summary.share_above_20_mm if quality else None,
            unit="%",
        ),
    ]


def accuracy_gates(groups: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Gates on the rows of `tables.group_table`, from the masked rows of the moving angles."""
    mae, speed = ({m: _moving(groups, m, c) for m in _METHODS} for c in ("mae_deg", "mv_deg_per_s"))
    baseline, frame, sequence = (mae[m] for m in _METHODS)
    final = sequence if sequence is not None else frame
    gates = [
        Gate(
            name="Held-out subjects: moving angles, error below the mean-angle baseline by",
            limit=30.0,
            measured=None if not baseline or final is None else 100 * (1 - final / baseline),
            unit="%",
            at_most=False,
            note=_against(final, baseline, "°"),
        ),
        Gate(
            name="Sequence network: error of the moving angles against the per-frame network",
            limit=100.0,
            measured=None if not frame or sequence is None else 100 * sequence / frame,
            unit="%",
            note=_of_sequence(sequence, frame, "°"),
        ),
        Gate(
            name="Sequence network: mean velocity (jitter) against the per-frame network",
            limit=100.0,
            measured=_percent(speed["sequence"], speed["per_frame"]),
            unit="%",
            note=_of_sequence(speed["sequence"], speed["per_frame"], "°/s"),
        ),
    ]
    return gates


_METHODS = ("mean_angle", "per_frame", "sequence")


def _moving(groups: Sequence[Mapping[str, Any]], method: str, column: str) -> float | None:
    for row in groups:
        if (row["group"], row["method"], row["masked"]) == ("moving", method, True):
            return row.get(column)
    return None


def _percent(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else 100 * part / whole


NO_SEQUENCE = "the model has no sequence network: none was better on the validation subjects"


def _of_sequence(value: float | None, reference: float | None, unit: str) -> str:
    return NO_SEQUENCE if value is None else _against(value, reference, unit)


def _against(value: float | None, reference: float | None, unit: str) -> str:
    if value is None or reference is None:
        return ""
    return f"{value:.2f} {unit} against {reference:.2f} {unit}"
