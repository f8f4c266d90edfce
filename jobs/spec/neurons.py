"""The neurons of a spec: a neuron set by its id, or by the method that identifies it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.intervention import Seed
from ampsweep.domain.neurons.neuron_set import METHOD_PARAMS, IdentificationRequest, SpecMethod
from ampsweep.domain.validation import Languages, Name, NeuronSetId, StrictModel

Rate = Annotated[float, Field(gt=0, le=1)]
_SPEC_NAMES = {"neurons": "k"}
"""Parameters of identification methods that have another name in a spec."""


class NeuronsById(StrictModel):
    """A neuron set that exists, by its id."""

    id: NeuronSetId


class NeuronsByMethod(StrictModel):
    """A neuron set to identify by a method, unless the same set was identified before.

    `k` is the number of neurons of each language, for `act_prob` and `average_precision`; `seed` is for `random`.
    """

    method: SpecMethod
    corpus: Name
    languages: Languages
    top_rate: Rate | None = None
    filter_rate: Rate | None = None
    activation_bar: Rate | None = None
    k: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    seed: Seed | None = None

    @model_validator(mode="after")
    def _params_of_the_method(self) -> NeuronsByMethod:
        names = self._request_names()
        for name in self._params():
            if name not in names:
                raise PydanticCustomError(
                    "unknown_key",
                    "{key} is not a parameter of method {method}; it has {names}",
                    {"key": name, "method": self.method, "names": ", ".join(names) or "no parameters"},
                )
        return self

    def _request_names(self) -> dict[str, str]:
        """Return the names of the method's parameters: from those in a spec to those in an identification request."""
        return {_SPEC_NAMES.get(name, name): name for name in METHOD_PARAMS[self.method]}

    def _params(self) -> dict[str, float]:
        return self.model_dump(exclude={"method", "corpus", "languages"}, exclude_none=True)

    def request(self, method: str | None = None) -> IdentificationRequest:
        """Return the identification request for the set.

        Args:
            method: A variant of the spec's method with the same parameters; by default the spec's method.
        """
        names = self._request_names()
        params = {names[name]: value for name, value in self._params().items()}
        return IdentificationRequest.of(method or self.method, params)


def _neurons_kind(raw: object) -> str:
    by_id = isinstance(raw, NeuronsById) or (isinstance(raw, dict) and "id" in raw)
    return "by id" if by_id else "by method"


Neurons = Annotated[
    Annotated[NeuronsById, Tag("by id")] | Annotated[NeuronsByMethod, Tag("by method")],
    Discriminator(_neurons_kind),
]
