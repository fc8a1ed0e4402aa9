"""Random numbers of a batch that do not depend on who computes which of its samples."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


class Draws:
    """Numbers per sample, drawn for a whole batch of which this process may hold a share.

    Every process that shares a batch draws the numbers of all its samples from equal generators
    and keeps those of its own: the samples change in the same way however they are shared out.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        total: int | None = None,
        places: Tensor | None = None,
        repeat: int = 1,
    ) -> None:
        """Numbers from `generator`; `places` [n] of the own samples in a batch of `total`.

        Without them a batch is the caller's own, of whatever size it asks for. Every number is
        that of `repeat` samples in a row, such as the frames of a window.
        """
        self.generator, self._total, self._places = generator, total, places
        self._repeat = repeat

    def first(self, count: int) -> Draws:
        """Numbers for the first `count` of the own samples (or of their groups of `repeat`)."""
        places = torch.arange(count) if self._places is None else self._places[:count]
        return Draws(self.generator, total=self._total or count, places=places, repeat=self._repeat)

    def uniform(
        self, count: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Uniform numbers 0 .. 1 [count], one for each of the own samples."""
        count //= self._repeat
        total = count if self._total is None else self._total
        drawn = torch.rand(
            total, generator=self.generator, device=self.generator.device, dtype=dtype
        )
        if self._places is not None:
            assert len(self._places) == count, "a batch of another size than its share"
            drawn = drawn[self._places.to(drawn.device)]
        return drawn.repeat_interleave(self._repeat).to(device)

    def shared(self, *shape: int, device: torch.device) -> Tensor:
        """Uniform numbers 0 .. 1 of any shape, the same for all that share the batch."""
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device)
        return drawn.to(device)
