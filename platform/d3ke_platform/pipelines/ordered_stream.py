"""Rows made in order by a cluster and dealt to several consumers: what training streams from.

Ray Data runs two steps. The first takes the numbers of work units and makes rows of each, in
actors; the second finishes every row, in as many tasks as there are CPUs. Both depend on their
input alone, so that what a dead node had made is made again. Blocks hold one row and keep their
order; then Ray deals them out in turn.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Expand = Callable[[int], Iterator[Any]]
"""Rows of a work unit, in order; picklable."""
Finish = Callable[[Any], Mapping[str, np.ndarray]]
"""Named arrays of a row, of the same names and types for all; picklable."""

_MOST_BLOCKS = 256
"""Blocks of unit numbers; a block's units are made one after the other."""
_ROWS_TOGETHER = 4
"""Rows that a task finishes; a task costs Ray some milliseconds."""
_AHEAD = 2
"""Rows that a consumer fetches ahead."""


def ordered_streams(
    expand: Expand,
    finish: Finish,
    *,
    units: int,
    consumers: int,
    memory_bytes: int,
) -> list[Any]:
    """Iterators for `read_stream`, one per consumer; picklable, made in a Ray worker.

    Row k of all rows goes to consumer k % `consumers`. Nothing runs before all consumers read.

    Args:
        expand: makes the rows of units 0 .. `units` - 1.
        finish: turns each row into arrays.
        units: work units.
        consumers: processes that read, all at the same pace.
        memory_bytes: of the object store, for rows under way.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old settings are copied as well
        context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # consumers pause, to validate for instance
    context.target_max_block_size = 1  # a block per row
    options = context.execution_options
    options.preserve_order = True
    options.resource_limits = options.resource_limits.copy(object_store_memory=memory_bytes)
    with DataContext.current(context):
        rows = (
            ray.data.range(units, override_num_blocks=min(units, _MOST_BLOCKS))
            .map_batches(
                _Expander,
                fn_constructor_args=(ray.put(expand),),
                batch_size=1,
                compute=ActorPoolStrategy(size=max(1, consumers // 8)),
                num_cpus=0.5,
            )
            .map_batches(
                _finish,
                fn_args=(finish,),
                batch_size=_ROWS_TOGETHER,
                compute=TaskPoolStrategy(),
                num_cpus=1,
            )
        )
        return rows.streaming_split(consumers, equal=False)


def read_stream(iterator: Any) -> Iterator[dict[str, np.ndarray]]:
    """Arrays of every row of one of the iterators; read-only views of shared memory."""
    batches = iterator.iter_batches(batch_size=None, prefetch_batches=_AHEAD, batch_format="numpy")
    for batch in batches:
        yield {name: values[0] for name, values in batch.items()}


class _Expander:
    """An actor that makes the rows of units."""

    def __init__(self, expand: Any) -> None:
        import ray

        self._expand: Expand = ray.get(expand)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
        for unit in batch["id"]:
            for row in self._expand(int(unit)):
                yield {"packed": [pickle.dumps(row)]}


def _finish(batch: dict[str, Any], finish: Finish) -> Iterator[dict[str, np.ndarray]]:
    for packed in batch["packed"]:
        row = finish(pickle.loads(packed))  # nosec B301
        yield {name: np.asarray(values)[None] for name, values in row.items()}
