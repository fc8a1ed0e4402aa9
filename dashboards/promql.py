"""Expressions over the platform's metrics, as the boards' variables narrow them."""

from __future__ import annotations

SESSION = 'SessionName=~"$session"'
# At least four scrapes, and more where the picture spans days.
RATE_WINDOW = "$__rate_interval"


def series(name: str, *filters: str) -> str:
    """The metric of the chosen Ray sessions."""
    return f"{name}{{{','.join((SESSION, *filters))}}}"


def total(name: str, *filters: str, by: str = "") -> str:
    """Sum over workers and nodes."""
    return f"sum{_by(by)} ({series(name, *filters)})"


def rate(name: str, *filters: str, by: str = "") -> str:
    """Increase of a counter per second, summed over workers and nodes."""
    return f"sum{_by(by)} (rate({series(name, *filters)}[{RATE_WINDOW}]))"


def quantile(share: float, name: str, *filters: str, by: str) -> str:
    """Quantile of a histogram, over the picture's window."""
    buckets = rate(f"{name}_bucket", *filters, by=f"{by}, le")
    return f"histogram_quantile({share}, {buckets})"


def ratio(above: str, below: str) -> str:
    """Quotient of two expressions with equal labels; nothing where the lower one is 0."""
    return f"{above} / ({below} > 0)"


def _by(labels: str) -> str:
    return f" by ({labels})" if labels else ""
