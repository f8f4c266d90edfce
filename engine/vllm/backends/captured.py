"""Copies the activations of captured requests out of a layer, with either backend.

The values are those of the activation function on its inputs, before any intervention in the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.kernels.activation import MlpForm, activate
from engine.vllm.backends.experts import ExpertRows
from engine.vllm.worker.outputs.capturing import CapturedSpan


def capture(spans: Sequence[CapturedSpan], layer: int, form: MlpForm, x: torch.Tensor) -> None:
    """Copy the activations of one layer.

    Args:
        spans: The tokens of captured requests.
        layer: Number of the layer's row in the worker's shard.
        form: What the layer's MLP computes.
        x: Inputs of the activation function in the first F columns, [T, F or 2F].
    """
    for span in spans:
        if (row := span.rows.get(layer)) is not None:
            inputs = x[span.first : span.end].index_select(1, row.columns.to(x.device))
            row.put(span.position, activate(form.activation, inputs, form.constants))


def capture_experts(
    spans: Sequence[CapturedSpan], layer: int, form: MlpForm, rows: ExpertRows, x: torch.Tensor, width: int
) -> None:
    """Copy the activations of one layer's experts, NaN where a token does not reach the expert of a neuron.

    Args:
        spans: The tokens of captured requests.
        layer: Number of the experts' row in the worker's shard.
        form: What each expert computes.
        rows: The rows of `x`.
        x: Inputs of the experts' activation function in the first `width` columns, [R, F or 2F].
        width: Neurons of one expert, F.
    """
    for span in spans:
        if (row := span.rows.get(layer)) is None:
            continue
        numbers = row.columns.to(x.device)
        experts, columns = numbers // width, numbers % width
        values = torch.full((span.end - span.first, len(columns)), torch.nan, device=x.device)
        for expert, first, end in rows.groups:
            chosen = (experts == expert).nonzero()[:, 0]
            tokens = rows.tokens[first:end]
            inside = ((tokens >= span.first) & (tokens < span.end)).nonzero()[:, 0]
            if len(chosen) and len(inside):
                activations = activate(form.activation, x[first + inside][:, columns[chosen]])
                values[(tokens[inside] - span.first)[:, None], chosen] = activations.float()
        row.put(span.position, values)
