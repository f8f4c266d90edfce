"""The time of one launch, as a model's forward pass sees it: in a CUDA graph, on buffers that the L2 cache has lost."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch

_WARM_UP, _ROUNDS = 3, 20
_LEAST_LAUNCHES = 8


def launches(bytes_moved: int) -> int:
    """Return how many launches, each on buffers of its own, move three times what the L2 cache holds."""
    cache = torch.cuda.get_device_properties().L2_cache_size
    return max(_LEAST_LAUNCHES, -(-3 * cache // bytes_moved))


def microseconds(launch: Callable[[int], None], count: int) -> float:
    """Return the median time of a launch, over replays of a graph of `launch(0)` to `launch(count - 1)`."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        launch(0)  # compiled here, since it cannot be while the graph is recorded
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for at in range(count):
            launch(at)
    times: list[float] = []
    for number in range(_WARM_UP + _ROUNDS):
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record()
        graph.replay()
        ended.record()
        ended.synchronize()
        if number >= _WARM_UP:
            times.append(started.elapsed_time(ended) * 1000.0 / count)
    return statistics.median(times)
