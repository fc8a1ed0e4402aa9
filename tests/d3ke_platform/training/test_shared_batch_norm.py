"""Batch norm over the samples of all workers: what one layer over the whole batch does."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from d3ke_platform.training import collectives
from d3ke_platform.training.shared_batch_norm import SharedBatchNorm, share_batch_norm


class ThreadGroup:
    """Threads that stand for workers: `all_reduce` adds up what all of them bring."""

    def __init__(self, count):
        self._barrier = threading.Barrier(count, timeout=30)
        self._lock, self._sum, self._left = threading.Lock(), None, 0

    def all_reduce(self, tensor):
        with self._lock:
            self._sum = tensor.clone() if self._sum is None else self._sum + tensor
        self._barrier.wait()
        tensor.copy_(self._sum)
        if self._barrier.wait() == 0:
            self._sum = None
        self._barrier.wait()


def network(kind, dtype=torch.float32):
    torch.manual_seed(3)
    convolution, norm = (
        (nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5))
        if kind == "images"
        else (nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5))
    )
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(convolution, norm, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).to(dtype)


def run(module, batch, outcome, place):
    output = module(batch)
    (output.square().sum() + output.sum()).backward()
    outcome[place] = output.detach()


@pytest.mark.parametrize(("kind", "shape"), [("images", (5, 3, 7, 7)), ("sequences", (5, 3, 9))])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_two_workers_normalise_like_one(monkeypatch, kind, shape, layout):
    if kind == "sequences" and layout is torch.channels_last:
        pytest.skip("sequences have no channels-last layout")
    batch = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    batch = batch.contiguous(memory_format=layout)
    alone = network(kind)
    alone(batch)
    alone[1].reset_running_stats()
    whole = {}
    run(alone, batch, whole, 0)
    group = ThreadGroup(2)
    monkeypatch.setattr(collectives, "all_reduce", group.all_reduce)
    workers = [network(kind) for _ in range(2)]
    shares = (batch[:3], batch[3:])
    outcome = {}
    threads = []
    for place, (module, share) in enumerate(zip(workers, shares, strict=True)):
        module[4] = nn.Linear(alone[4].in_features, 2)
        module.load_state_dict({**alone.state_dict(), **network_statistics(alone)})
        share_batch_norm(module)
        assert isinstance(module[1], SharedBatchNorm)
        threads.append(threading.Thread(target=run, args=(module, share, outcome, place)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.testing.assert_close(torch.cat([outcome[0], outcome[1]]), whole[0], atol=1e-5, rtol=1e-5)
    for name, parameter in alone.named_parameters():
        summed = sum(dict(module.named_parameters())[name].grad for module in workers)
        torch.testing.assert_close(summed, parameter.grad, atol=1e-4, rtol=1e-4)
    for module in workers:
        torch.testing.assert_close(module[1].running_mean, alone[1].running_mean)
        torch.testing.assert_close(module[1].running_var, alone[1].running_var)
        assert module.state_dict().keys() == alone.state_dict().keys()


def network_statistics(alone):
    fresh = nn.BatchNorm1d(alone[1].num_features)
    return {f"1.{name}": value for name, value in fresh.named_buffers()}


def test_layers_in_evaluation_mode_ask_nobody():
    layer = share_batch_norm(nn.Sequential(nn.BatchNorm2d(4)))
    plain = nn.BatchNorm2d(4).eval()
    batch = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(layer.eval()(batch), plain(batch))
