"""Mean errors over a validation set that several workers share."""

from __future__ import annotations

import torch
from torch import Tensor


class ErrorSums:
    """Sums and counts under fixed names; their quotients are the metrics.

    The names are given at the start because all workers must reduce the same table, also one
    that has no validation samples.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.table = torch.zeros(len(names), 2, dtype=torch.float64, device=device)
        """[names, (sum, count)]"""

    def add(self, name: str, values: Tensor, mask: Tensor | None = None) -> None:
        """Add the `values` (where `mask`, of the same shape) to the mean called `name`."""
        weights = torch.ones_like(values) if mask is None else mask.to(values.dtype)
        # where, not a product: a masked NaN must not reach the sum.
        kept = values if mask is None else torch.where(mask, values, torch.zeros_like(values))
        sums = torch.stack([kept.double().sum(), weights.double().sum()])
        self.table[self.names.index(name)] += sums

    def means(self) -> dict[str, float]:
        """Mean per name; NaN for a name that got no values."""
        quotients = self.table[:, 0] / self.table[:, 1]
        return dict(zip(self.names, quotients.tolist(), strict=True))
