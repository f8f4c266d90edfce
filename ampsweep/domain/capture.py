"""Capture of activations: which neurons, texts and interventions a request may name, and how many bytes it may take.

Which numbers a selection stands for in a model is known to `engine.capture.selection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.choices import CaptureDtype
from ampsweep.domain.generation.prompt import Prompt, TokenIds
from ampsweep.domain.intervention import Intervention, LayerList, NeuronIndex
from ampsweep.domain.validation import Languages, StrictModel, unique
from ampsweep.errors import CaptureTooLarge, InvalidRequest

MAX_FLOAT16 = 65504.0
"""The largest number of float16."""
MAX_NEURONS = 1_000_000
"""Neurons that a selection may list one by one."""
MAX_TEXTS = 1024
"""Texts of one request to a server."""
MAX_TEXT_BYTES = 1024**3
"""Most bytes of the activations of a single text in float32, in which they are in memory at once."""
_BYTES: dict[CaptureDtype, int] = {"float16": 2, "float32": 4}
_MIB = 1024**2


class CaptureSelection(StrictModel):
    """The neurons to capture: those listed, those of some languages of a neuron set, or all of some layers.

    Exactly one of the fields is given. A neuron in `neurons` is its layer and its index in the layer.
    """

    neurons: (
        Annotated[
            tuple[NeuronIndex, ...],
            Field(strict=False, min_length=1, max_length=MAX_NEURONS),
            AfterValidator(unique),
        ]
        | None
    ) = None
    languages: Languages | None = None
    layers: LayerList | None = None

    @model_validator(mode="after")
    def _is_one(self) -> CaptureSelection:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if not given:
            message = "is required, or languages or layers: they say which neurons are captured"
            raise PydanticCustomError("no_selection", message, {"key": "neurons"})
        if len(given) > 1:
            message = f"cannot be combined with {given[0]}; send a request for each"
            raise PydanticCustomError("two_selections", message, {"key": given[1]})
        return self


@dataclass(frozen=True, kw_only=True)
class CapturedText:
    """A text whose activations are captured, at every token.

    Attributes:
        id: The caller's name of the text, stored with its rows.
        prompt: The text, a chat, or tokens. A chat whose last message is the assistant's ends with it; any other ends
            with the start of the assistant's answer.
        completion: Text after a `prompt` that is a text. Its tokens count as generated, as those of the last message of
            the assistant do, which matters to interventions with a scope.
    """

    id: str
    prompt: Prompt | TokenIds
    completion: str | None = None


def capture_bytes(tokens: int, neurons: int, dtype: CaptureDtype) -> int:
    """Return the bytes of the activations of `neurons` neurons at `tokens` tokens."""
    return tokens * neurons * _BYTES[dtype]


def check_capturable(intervention: Intervention | None) -> None:
    """Check that it does not depend on a running text which tokens an intervention edits: a captured text is given.

    Raises:
        InvalidRequest: It does (param "intervention.when" or "intervention.part").
    """
    if intervention is None or (field := intervention.text_field) is None:
        return
    raise InvalidRequest(
        f"a captured text is given, so there is no running text that {field} could follow; leave {field} out, and give "
        "the tokens of the answer that were steered (its steered_spans) as tokens with scope generation",
        param=f"intervention.{field}",
    )


def check_capture_size(
    tokens: int, neurons: int, dtype: CaptureDtype, *, limit: int, param: str, remedy: str | None = None
) -> None:
    """Check that activations do not take more bytes than allowed, before any is computed.

    Args:
        tokens: Number of tokens.
        neurons: Number of neurons at each token.
        dtype: How they are stored.
        limit: Most bytes.
        param: The field that has the texts.
        remedy: What to do, for the error; None for what reduces the bytes of a request.

    Raises:
        CaptureTooLarge: They would take more.
    """
    size = capture_bytes(tokens, neurons, dtype)
    if size <= limit:
        return
    if remedy is None:
        remedy = "give fewer or shorter texts, or fewer neurons, languages or layers"
        remedy += ", or float16" if dtype == "float32" else ""
    raise CaptureTooLarge(
        f"{param}: the activations of {neurons} neurons at {tokens} tokens take {size / _MIB:.1f} MiB in {dtype}, more "
        f"than {limit / _MIB:.1f} MiB; {remedy}",
        param=param,
    )
