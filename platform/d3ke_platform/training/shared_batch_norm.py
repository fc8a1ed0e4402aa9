"""Batch normalisation over the batch of all workers, on the CPU as well.

PyTorch's SyncBatchNorm works on GPUs only. Without either, every worker normalises with the
statistics of its own share: the effective batch of these layers would shrink with each worker.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from d3ke_platform.training import collectives


class SharedBatchNorm(_BatchNorm):
    """A batch-norm layer that normalises with the statistics of all workers' samples.

    Parameters and buffers are those of the layer it stands for, names included.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"batch norm of {input.dim()} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self.training:
            return super().forward(input)
        momentum = self.momentum
        assert momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        output, mean, variance, count = _Normalize.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            unbiased = variance * (count / (count - 1).clamp(min=1))
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(unbiased.to(variance.dtype), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return output


class _Normalize(torch.autograd.Function):
    """(x - mean) / deviation over all workers, times weight plus bias, with its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Any:
        axes = [axis for axis in range(values.dim()) if axis != 1]
        # Sums in float64: a variance from sums of squares loses digits.
        own = values.numel() / values.shape[1]
        wide = values if values.dtype == torch.float64 else values.float()
        variance, mean = torch.var_mean(wide, axes, correction=0)
        mean, variance = mean.double(), variance.double()
        size = torch.full((1,), own, dtype=mean.dtype, device=mean.device)
        packed = torch.cat([own * mean, own * (variance + mean.square()), size])
        collectives.all_reduce(packed)
        count = packed[-1]
        mean, square = (packed[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)
        mean, variance = mean.to(weight.dtype), variance.to(weight.dtype)
        ctx.save_for_backward(values, weight, mean, variance, count)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, variance, count)
        output = F.batch_norm(values, mean, variance, weight, bias, training=False, eps=eps)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *unused: Tensor) -> Any:
        values, weight, mean, variance, count = ctx.saved_tensors
        scaled, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, weight, mean, variance, mean, variance, False, ctx.eps, [True] * 3
        )
        # `scaled` takes mean and deviation for constants; what they pass on is the same for all
        # samples of all workers but for the place of each sample.
        packed = torch.cat([by_bias, by_weight]).double()
        collectives.all_reduce(packed)
        along_one, along_values = (packed / count).to(weight.dtype).chunk(2)
        inverse = (variance + ctx.eps).rsqrt()
        shape = [1, -1] + [1] * (values.dim() - 2)
        slope = weight * inverse.square() * along_values
        offset = weight * inverse * along_one - slope * mean
        correction = values * slope.view(shape).to(values.dtype)
        passed = scaled - correction - offset.view(shape).to(values.dtype)
        return passed, by_weight, by_bias, None


def share_batch_norm(module: nn.Module) -> nn.Module:
    """Let every batch-norm layer of `module` normalise over all workers; changes it in place.

    Layers that do not learn keep their own statistics: they stand still.
    """
    for name, layer in module.named_children():
        if isinstance(layer, _BatchNorm) and layer.affine and layer.track_running_stats:
            setattr(module, name, _shared(layer))
        else:
            share_batch_norm(layer)
    return module


def _shared(layer: _BatchNorm) -> SharedBatchNorm:
    shared = SharedBatchNorm(layer.num_features, eps=layer.eps, momentum=layer.momentum)
    shared.weight, shared.bias = layer.weight, layer.bias
    shared.running_mean, shared.running_var = layer.running_mean, layer.running_var
    shared.num_batches_tracked = layer.num_batches_tracked
    return shared.train(layer.training)
