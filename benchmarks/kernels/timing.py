"""Times one launch as in a forward pass: in a CUDA graph, with buffers that are not in the L2 cache.

Without CUDA it runs each launch once, for rehearsals; the times then say nothing about a GPU.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

_WARM_UP, _ROUNDS = 3, 20
LEAST_LAUNCHES = 8


def launches(bytes_moved: int) -> int:
    """Return how many launches, each with its own buffers, move three times the size of the L2 cache."""
    if not torch.cuda.is_available():
        return 1
    cache = torch.cuda.get_device_properties().L2_cache_size
    return max(LEAST_LAUNCHES, -(-3 * cache // bytes_moved))


def microseconds(launch: Callable[[int], None], count: int) -> float:
    """Return the median time of a launch over replays of a graph with `launch(0)` to `launch(count - 1)`."""
    if not torch.cuda.is_available():
        started_at = time.perf_counter()
        for index in range(count):
            launch(index)
        return (time.perf_counter() - started_at) * 1e6 / count
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        launch(0)  # compiles the kernel, which is not possible while a graph is captured
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(count):
            launch(index)
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
