"""Who turns crops into estimates: the network in this process, or one that others use as well."""

from __future__ import annotations

from typing import Any, Protocol

from d3ke.arrays import ImageArray
from d3ke_platform.stages.estimate import EstimateArrays, FrameEstimator
from d3ke_platform.stages.score_plan import ScorePlan


class CropNetwork(Protocol):
    """The per-frame network, in this process or elsewhere."""

    ahead: int
    """Batches that may wait for their results."""

    def submit(self, images: ImageArray) -> Any:
        """Start on crops [n,S,S,3]; returns a ticket."""
        ...

    def result(self, ticket: Any) -> EstimateArrays:
        """Wait for the estimates of a ticket."""
        ...


class LocalNetwork:
    """The network in this process: while it works, the child decodes on."""

    ahead = 0

    def __init__(self, plan: ScorePlan) -> None:
        self._estimator = FrameEstimator(
            plan.bundle, device=plan.device, batch_size=plan.batch_size, precision=plan.precision
        )

    def submit(self, images: ImageArray) -> EstimateArrays:
        """The estimates themselves."""
        return self._estimator.estimate(images)

    def result(self, ticket: EstimateArrays) -> EstimateArrays:
        """What `submit` gave."""
        return ticket
