"""The learning rate of every step: phases that fall exponentially."""

from __future__ import annotations

from dataclasses import dataclass

from d3ke_platform.training.settings import StageSettings


@dataclass(frozen=True)
class EpochPlace:
    """Where an epoch lies in the schedule."""

    phase: int
    first_of_phase: bool
    index: int
    """Epochs of the same phase before this one."""


@dataclass(frozen=True)
class Schedule:
    """Learning rates over phases; within a phase `start * (end / start) ** progress`.

    By epoch, progress is e / (E - 1): the first epoch has the start value, the last the end value
    (section 4.3 of the paper; gamma = (end / start) ** (1 / (E - 1))). By step it is the share of
    the phase's steps that are done.
    """

    settings: StageSettings
    steps_per_epoch: int

    def place(self, epoch: int) -> EpochPlace:
        """The phase of `epoch` (from 0)."""
        for phase, count in enumerate(self.settings.epochs):
            if epoch < count:
                return EpochPlace(phase=phase, first_of_phase=epoch == 0, index=epoch)
            epoch -= count
        raise IndexError(f"the schedule has {self.settings.total_epochs} epochs")

    def learning_rate(self, epoch: int, step: int) -> float:
        """Learning rate at `step` (from 0) of `epoch` (from 0)."""
        place = self.place(epoch)
        start = self.settings.learning_rate_start[place.phase]
        end = self.settings.learning_rate_end[place.phase]
        done, last = place.index, self.settings.epochs[place.phase] - 1
        if self.settings.schedule_by == "step":
            done = place.index * self.steps_per_epoch + step
            last = self.settings.epochs[place.phase] * self.steps_per_epoch - 1
        return start * (end / start) ** (done / max(last, 1))
