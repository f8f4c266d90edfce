"""The number of neurons of each language that the method `average_precision` selects in a model."""

from __future__ import annotations

from collections.abc import Mapping

PUBLISHED: Mapping[str, int] = {
    "gemma-2-2b-it": 354,
    "gemma-2-9b-it": 897,
    "qwen2.5-0.5b-instruct": 550,
    "qwen2.5-7b-instruct": 1644,
    "seallms-v3-1.5b-chat": 1085,
    "seallms-v3-7b-chat": 1426,
}
"""The k of the models of arXiv 2507.22581, by the last part of their names on the Hugging Face Hub, in lower case.

Source: the code of the paper, github.com/tauimbz/lang-task-neuron.
"""

SHARE = 0.003
"""Share of a model's neurons that is selected where nothing is published: the mean of the shares of PUBLISHED."""


def default_neurons(*names: str | None, total: int) -> int:
    """Return the published k of a model, otherwise SHARE of its neurons.

    Args:
        names: What the model may be known by: its name, and `organization/name@commit` if it is from the Hub.
        total: Number of neurons of the model, over all layers.

    Example:
        >>> default_neurons("Qwen/Qwen2.5-0.5B-Instruct", total=24 * 4864)
        550
        >>> default_neurons("my-model", total=10_000)
        30
    """
    for name in names:
        if name is not None:
            base = name.rstrip("/").rpartition("/")[2].partition("@")[0].lower()
            if base in PUBLISHED:
                return PUBLISHED[base]
    return max(1, round(SHARE * total))
