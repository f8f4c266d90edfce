"""The hook on the experts of a layer, in the form in which Transformers computes them one by one (`eager`).

The experts are run twice, because an intervention may need a statistic of all activations of a token: first to collect
the activations, then with the changed activations in their place. The experts themselves are those of Transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ampsweep.errors import UnsupportedModel

_Call = tuple[Tensor, slice]
"""The tokens that reach an expert, int64 [n], and the neurons of the expert among those of the layer."""


class Part(NamedTuple):
    """The neurons from `first` up to `end` of a layer: those of its MLP, or of all of its experts."""

    layer: int
    first: int
    end: int


def experts_width(experts: nn.Module, *, layer: int, model: str) -> int:
    """Return the neurons of all experts of a layer.

    Args:
        experts: The module of the experts.
        layer: Index of the layer, for the error.
        model: Class of the model, for the error.

    Raises:
        UnsupportedModel: The experts are not computed one by one, with an activation module on the gate.
    """
    activation, count, width = (getattr(experts, name, None) for name in ("act_fn", "num_experts", "intermediate_dim"))
    if not (isinstance(activation, nn.Module) and isinstance(count, int) and isinstance(width, int)):
        raise UnsupportedModel(
            f"{model} cannot be steered: layer {layer} has {type(experts).__name__}, not experts with one activation "
            "function",
            param="model",
        )
    return count * width


class HookedExperts(nn.Module):
    """The experts of a layer, whose activations pass through a hook as those of one MLP.

    Neuron i of expert e is neuron e * (neurons of an expert) + i of the part. An activation is NaN where a token does
    not reach the expert.
    """

    def __init__(
        self, experts: Any, *, is_active: Callable[[], bool], after_activation: Callable[[Tensor], Tensor]
    ) -> None:
        """Install the hook in the module of the experts of one layer.

        Args:
            experts: The module.
            is_active: Whether activations are changed or watched in the current forward pass.
            after_activation: Takes the activations [1, T, F], and returns those that the layer continues with.
        """
        super().__init__()
        self.experts = experts
        self._is_active = is_active
        self._after_activation = after_activation
        self._after_call: Callable[[Tensor], Tensor] | None = None
        experts.act_fn = _ExpertActivation(experts.act_fn, self)

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """Return the sum of the experts' outputs [T, H]; each token reaches k experts, `top_k_index` [T, k]."""
        arguments = (hidden_states, top_k_index, top_k_weights)
        if not self._is_active():
            return self._run(arguments, None)
        width = self.experts.num_experts * self.experts.intermediate_dim
        calls = list(self._calls(top_k_index))
        activations = hidden_states.new_full((len(hidden_states), width), torch.nan)
        collected = iter(calls)

        def collect(activation: Tensor) -> Tensor:
            tokens, neurons = next(collected)
            assert len(activation) == len(tokens), "the experts are not called in ascending order"
            activations[tokens, neurons] = activation
            return activation

        self._run(arguments, collect)
        assert next(collected, None) is None, "the experts are not called in ascending order"
        changed = self._after_activation(activations[None])[0]
        replaced = iter(calls)

        def replace(_activation: Tensor) -> Tensor:
            tokens, neurons = next(replaced)
            return changed[tokens, neurons]

        return self._run(arguments, replace)

    def after_call(self, activation: Tensor) -> Tensor:
        """Return the activations that one expert continues with, for the tokens that reach it; called by the expert."""
        return activation if self._after_call is None else self._after_call(activation)

    def _run(self, arguments: tuple[Tensor, ...], after_call: Callable[[Tensor], Tensor] | None) -> Tensor:
        self._after_call = after_call
        try:
            output: Tensor = self.experts(*arguments)
        finally:
            self._after_call = None
        return output

    def _calls(self, top_k_index: Tensor) -> Iterator[_Call]:
        """Yield the calls of the activation function: one for each expert that tokens reach, in ascending order."""
        width = self.experts.intermediate_dim
        for expert in sorted(set(top_k_index.flatten().tolist())):
            _, tokens = torch.where(top_k_index.T.eq(expert))
            yield tokens, slice(expert * width, (expert + 1) * width)


class HookedLlama4Activation(nn.Module):
    """The activation function of the experts of a layer of Llama 4, which are all computed for all tokens.

    Where the router has not chosen an expert, its input is 0, so gate and up are 0 too, and what the hook returns is
    multiplied by 0.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        *,
        is_active: Callable[[], bool],
        after_activation: Callable[[Tensor], Tensor],
    ) -> None:
        """Prepare the module that replaces `function`; see `HookedExperts` for the other arguments."""
        super().__init__()
        self._function = function
        self._is_active = is_active
        self._after_activation = after_activation

    def forward(self, gate: Tensor) -> Tensor:
        """Return the activations [E, T, F] from the inputs of the function, of the same shape."""
        activation = self._function(gate)
        if not self._is_active():
            return activation
        reached = gate.any(dim=-1, keepdim=True)
        by_token = torch.where(reached, activation, torch.nan).transpose(0, 1)  # [T, E, F]
        changed = self._after_activation(by_token.flatten(1)[None])[0]
        return torch.where(reached, changed.view(by_token.shape).transpose(0, 1), activation)


class _ExpertActivation(nn.Module):
    """The activation function of all experts of a layer, whose result passes through `HookedExperts.after_call`."""

    def __init__(self, function: Callable[[Tensor], Tensor], owner: HookedExperts) -> None:
        super().__init__()
        self.function = function
        self._owner = [owner]  # in a list, so that the owner is not registered as a module of its own part

    def forward(self, gate: Tensor) -> Tensor:
        return self._owner[0].after_call(self.function(gate))
