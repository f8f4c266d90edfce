"""The spec of a sweep, as users write it in YAML or JSON.

Validates the form of a spec and fills in defaults. Knows nothing of the models, corpora and data sets that exist;
`jobs.planning.resolution` looks names up.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from ampsweep.domain.choices import Mode
from ampsweep.domain.intervention import Seed
from ampsweep.domain.validation import Name, StrictModel, Unique, one_or_list, validate
from jobs.spec.interventions import InterventionsSpec
from jobs.spec.neurons import Neurons
from jobs.spec.task import TaskSpec


class HalvingSpec(StrictModel):
    """Successive halving over the factors; see `jobs.planning.search`.

    All factors are tried on `items` items, then the better half on twice as many, and so on, until `keep` are left.
    These are run on all items. `metric` is the metric that decides which factor is better; None stands for `lss`.
    """

    method: Literal["halving"]
    items: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    keep: Annotated[int, Field(ge=1, le=1000)] = 2
    metric: Name | None = None


def _search(value: object) -> object:
    if value == "grid":
        return None
    if isinstance(value, str) and value != "halving":
        message = "must be grid, halving, or an object with method, items, keep and metric; got {value}"
        raise PydanticCustomError("search", message, {"value": value})
    return {"method": "halving"} if value == "halving" else value


_Search = Literal["grid", "halving"] | HalvingSpec | None


class SweepSpec(StrictModel):
    """The spec of a sweep: one model, one neuron set, interventions and tasks.

    Attributes:
        name: A name for people; not part of any id.
        model: Name of a model; a local run also accepts a folder or a model of the Hugging Face Hub.
        adapter: Name of a LoRA adapter of the model that all requests use; by default the model alone is asked.
        neurons: The neuron set, by its id or by the method that identifies it.
        interventions: What is done to whose neurons.
        tasks: What the model is asked.
        mode: `corrected`, or `paper` to reproduce the errors of the published code. With both, the sweep is computed
            in each mode.
        search: Successive halving over the factors; None computes the whole grid.
        seed: Seed of the random controls and of the items that a limit draws.

    Example:
        >>> spec = parse_spec(
        ...     {
        ...         "model": "atlas",
        ...         "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
        ...         "interventions": {"languages": ["fr"], "op": "scale", "factors": [0.5, 2], "controls": ["random"]},
        ...         "tasks": [{"name": "lss", "languages": ["en", "tr"], "limit": 24}],
        ...     }
        ... )
        >>> spec.mode, spec.search, spec.interventions.factors
        (('corrected',), None, (0.5, 2.0))
    """

    name: Name = "sweep"
    model: Annotated[str, Field(min_length=1, max_length=4096)]
    adapter: Name | None = None
    neurons: Neurons
    interventions: InterventionsSpec
    tasks: Annotated[tuple[TaskSpec, ...], Field(strict=False, min_length=1, max_length=100)]
    mode: Annotated[Unique[Mode], BeforeValidator(one_or_list)] = ("corrected",)
    search: Annotated[HalvingSpec | None, BeforeValidator(_search, json_schema_input_type=_Search)] = None
    seed: Seed = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as JSON with its defaults filled in; `parse_spec` reads it back."""
        return self.model_dump(mode="json", exclude_none=True)


def parse_spec(raw: object) -> SweepSpec:
    """Validate the spec of a sweep.

    Args:
        raw: The spec as parsed from YAML or JSON.

    Raises:
        InvalidRequest: `param` is the dotted path of the first invalid field.
    """
    return validate(SweepSpec, raw)
