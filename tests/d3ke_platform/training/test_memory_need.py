"""When a batch does not fit into the GPU: how many samples would, and one clear line."""

from __future__ import annotations

import pytest
import torch
from fake_data import make_data_set
from toy_task import ToyTask, toy_settings

from d3ke.draws import Draws
from d3ke.errors import D3KEError
from d3ke_platform.training import loop
from d3ke_platform.training.frame_stage import FrameJob
from d3ke_platform.training.loop import TrainingLoop
from d3ke_platform.training.memory_need import (
    OutOfMemoryError,
    first_samples,
    fitting_samples,
    sample_count,
)
from d3ke_platform.training.settings import FrameTraining
from d3ke_platform.training.worker import LocalWorker

CPU = torch.device("cpu")


class FakeMemory:
    """A device where a step takes 1,000 bytes and 100 per sample."""

    def __init__(self, size):
        self.size, self.in_use, self.runs = size, 0, []

    def step(self, samples):
        self.runs.append(samples)
        self.in_use = 1000 + 100 * samples
        if self.in_use > self.size:
            raise torch.OutOfMemoryError("CUDA out of memory")

    def peak_of(self, run):
        run()
        return self.in_use

    def available(self):
        return self.size


def test_two_small_steps_tell_how_many_samples_fit():
    memory = FakeMemory(5000)
    assert fitting_samples(memory.step, 64, memory) == int((0.92 * 5000 - 1000) / 100)
    assert memory.runs == [8, 16]
    # The optimiser's state takes room from the samples.
    assert fitting_samples(memory.step, 64, memory, extra_bytes=2000) == 16


@pytest.mark.parametrize(("size", "expected"), [(1500, 4), (1120, 1), (900, 0)])
def test_small_devices(size, expected):
    memory = FakeMemory(size)
    assert fitting_samples(memory.step, 64, memory) == expected


def test_parts_of_a_batch(tmp_path):
    data = make_data_set(tmp_path, subjects={"train": 1, "validation": 1}, trials=1)
    settings = FrameTraining(backbone="resnet18_half", image_size=32, batch_size=9)
    task = FrameJob(data=data.root, settings=settings, seed=1).task(LocalWorker(tmp_path, CPU))
    batch = next(iter(task.batches(0)))
    assert sample_count(batch) == 9
    few = first_samples(batch, 4)
    assert sample_count(few) == 4
    assert few.target.coordinates.equal(batch.target.coordinates[:4])
    assert torch.isfinite(task.losses(task.module, few)["total"])


def test_a_share_of_the_numbers_is_that_of_the_whole():
    def drawn(**share):
        return Draws(torch.Generator().manual_seed(4), **share)

    whole = drawn().uniform(6, CPU)
    own = torch.tensor([1, 3, 5])
    assert drawn(total=6, places=own).uniform(3, CPU).equal(whole[own])
    assert drawn(total=6, places=own).first(2).uniform(2, CPU).equal(whole[[1, 3]])
    assert (
        drawn(total=6, places=own).shared(2, 2, device=CPU).equal(drawn().shared(2, 2, device=CPU))
    )


def test_training_says_which_batch_fits(tmp_path, monkeypatch):
    memory = FakeMemory(1600)

    class Hungry(ToyTask):
        def losses(self, predict, batch):
            memory.step(len(batch))
            return super().losses(predict, batch)

    monkeypatch.setattr(loop, "GPUMemory", lambda device: memory)
    worker = LocalWorker(tmp_path, CPU)
    task = Hungry(toy_settings(), worker)
    with pytest.raises(OutOfMemoryError) as error:
        TrainingLoop(task, worker, seed=1).run()
    message = str(error.value)
    assert "toy network does not fit" in message
    assert "with 8 samples: about 4 fit. Use --frame.batch-size 4, more workers," in message
    assert "\n" not in message
    assert isinstance(error.value, D3KEError)


def test_the_error_names_the_batch_of_all_workers():
    text = str(OutOfMemoryError("sequence", "NVIDIA X", 32, 4, 20))
    assert "32 samples of a batch of 128: about 20 fit" in text
    assert "--sequence.batch-size 80" in text
    assert "not even one does" in str(OutOfMemoryError("frame", "NVIDIA X", 8, 1, 0))
