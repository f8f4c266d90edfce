"""The field `vllm_xargs`, in which clients of vLLM's own server ask for an intervention of Ampsweep's plug-in."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from ampsweep.documents import parse_json
from ampsweep.domain.intervention import Intervention
from ampsweep.domain.validation import StrictModel
from ampsweep.errors import InvalidRequest
from jobs.presets import NAME_PATTERN

STEERING_FIELD = "vllm_xargs.ampsweep"


def _parsed(value: object) -> object:
    """Return the JSON of an intervention as an object; other values, the names of presets among them, unchanged."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("{"):
        if not re.fullmatch(NAME_PATTERN, value):
            message = (
                "must be an intervention as JSON, or the name of one; a name has 1 to 64 letters from A to Z, digits,"
            )
            raise PydanticCustomError("no_name", f"{message} '.', '-' and '_', and begins with a letter or a digit")
        return value
    try:
        return parse_json(value)
    except (ValueError, InvalidRequest) as error:
        raise PydanticCustomError(
            "no_json", "is neither JSON nor the name of an intervention: {reason}", {"reason": str(error)}
        ) from None


class VllmXargs(StrictModel):
    """Arguments of extensions of vLLM. `ampsweep` is an intervention, as an object or as its JSON text, or its name."""

    ampsweep: Annotated[
        Annotated[
            Annotated[str, Field(pattern=NAME_PATTERN), Tag("name")] | Annotated[Intervention, Tag("intervention")],
            Discriminator(lambda value: "name" if isinstance(value, str) else "intervention"),
        ],
        BeforeValidator(_parsed),
    ]

    @property
    def intervention(self) -> Intervention | None:
        """The intervention; None if the field has a name."""
        return None if isinstance(self.ampsweep, str) else self.ampsweep

    @property
    def preset(self) -> str | None:
        """The name of an intervention."""
        return self.ampsweep if isinstance(self.ampsweep, str) else None


def check_one_intervention(xargs: VllmXargs | None, others: dict[str, Any]) -> None:
    """Raise PydanticCustomError if a request has an intervention in `vllm_xargs` and in one of the `others` too."""
    for name, value in others.items():
        if xargs is not None and value is not None:
            message = "cannot be combined with vllm_xargs.ampsweep; give only one of them"
            raise PydanticCustomError("two_kinds", message, {"key": name})
