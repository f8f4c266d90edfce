"""Which tokens an intervention edits, of those in its scope, and how strongly."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ampsweep.domain.validation import StrictModel, Unique

_Position = Annotated[int, Field(gt=-(2**31), lt=2**31)]


class EditedTokens(StrictModel):
    """Some of the tokens in a scope: a slice of them, as in Python, or a list of positions.

    Positions count from 0 at the first token in the scope, which is that of the prompt, or the first generated one.
    Negative ones count from the end of the prompt and go with scope `prompt`. A position at which there is no token
    edits nothing.

    Attributes:
        start: Position of the first edited token; None for 0.
        end: Position after the last edited token; None for the end of the scope.
        positions: The edited tokens, ascending, instead of a slice.
        decay: What the strength of the intervention is multiplied by at each token after the first edited one. k tokens
            after it, a' = a + decay^k * (op(a) - a), and decay^k times a vector is added. None for full strength.

    Example:
        >>> EditedTokens(end=8, decay=0.5).label, EditedTokens(start=-4).label, EditedTokens(positions=(7, 0)).label
        ('end=8, decay=0.5', 'start=-4', 'positions=0 7')
    """

    start: Annotated[_Position | None, AfterValidator(lambda start: start or None)] = None
    end: _Position | None = None
    positions: Annotated[Unique[_Position] | None, AfterValidator(lambda listed: listed and tuple(sorted(listed)))] = (
        None
    )
    decay: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _some_tokens(self) -> EditedTokens:
        start, end = self.start or 0, self.end
        if self.positions is not None and (self.start is not None or end is not None):
            message = "are the only tokens that are edited; leave start and end out, or positions"
            raise PydanticCustomError("positions", message, {"key": "positions"})
        if end is not None and (end == 0 or (end <= start and (end < 0) == (start < 0))):
            message = "no token is from start {start} up to end {end}; give an end after the start"
            raise PydanticCustomError("end", message, {"key": "end", "start": start, "end": end})
        return self

    @property
    def label(self) -> str:
        """The fields that are set, as in `start=2, end=8` or `positions=0 7`."""
        values = {
            name: " ".join(map(str, value)) if isinstance(value, list) else value
            for name, value in self.to_dict().items()
        }
        return ", ".join(f"{name}={value}" for name, value in values.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, as JSON."""
        return self.model_dump(mode="json", exclude_none=True)


def check_tokens(tokens: EditedTokens | None, scope: str, *, key: str = "tokens") -> None:
    """Check that positions do not count from the end of a generation, which is not known while it is edited.

    Args:
        tokens: The tokens.
        scope: The scope.
        key: The path of the tokens in the model that is validated.

    Raises:
        PydanticCustomError: With the wrong field as `key` in its context.
    """
    if tokens is None or scope == "prompt":
        return
    for name in ("start", "end", "positions"):
        value = getattr(tokens, name)
        lowest = value[0] if isinstance(value, tuple) else value
        if lowest is not None and lowest < 0:
            message = "counts from the end of the prompt if it is negative, which goes with scope prompt, not {scope}"
            raise PydanticCustomError(
                "from_the_end", f"{message}; got {{value}}", {"key": f"{key}.{name}", "scope": scope, "value": lowest}
            )
