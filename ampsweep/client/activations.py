"""The clients' methods for activations: captured at each token of texts, and summed up by language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ampsweep.client.completions import intervention_json
from ampsweep.client.http.session import Session
from ampsweep.client.http.transport import Request
from ampsweep.errors import InvalidRequest

if TYPE_CHECKING:
    from ampsweep.client.tables import TableForm
    from ampsweep.domain.intervention import Intervention

Text = str | Mapping[str, Any]
"""A text, or an object with `prompt` (a text or token ids) or `messages`, and perhaps `id` and `completion`."""


class ActivationMethods:
    """Methods about activations."""

    _session: Session

    async def activations(
        self,
        /,
        model: str,
        texts: Sequence[Text],
        select: Mapping[str, Any],
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        as_: TableForm = "arrow",
        **options: Any,
    ) -> Any:
        """Return the activations of neurons at each token of texts: one row for each text, token and layer.

        Under an intervention an activation is the value before the edit in its own layer.

        Args:
            model: The name of a model that the server offers.
            texts: The texts.
            select: The neurons: {"neurons": [[layer, index], ...]}, {"languages": ["fr"]} or {"layers": [3, 4]}.
            intervention: What steers the model, an `ampsweep.domain.intervention.Intervention` or its JSON form. None
                leaves it unsteered.
            as_: "arrow", "pandas" or "polars".
            options: Other fields of `POST /activations`: `dtype` ("float16", the default, or "float32"), `neurons`, the
                id of a neuron set (by default the model's default or only set), and `adapter`.

        Returns:
            The table. The metadata of an Arrow table name the neurons of each layer, in the order of `activations`.

        Raises:
            CaptureTooLarge: The activations would take more bytes than the server allows.
            InvalidRequest: A field is wrong, or float16 cannot hold an activation.
        """
        return await self._session.table_of(_activations(model, texts, select, intervention, options), as_)

    async def download_activations(
        self,
        /,
        model: str,
        texts: Sequence[Text],
        select: Mapping[str, Any],
        path: Path | str,
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Path:
        """Save the activations of neurons at each token of texts as a Parquet file, which is written atomically.

        The arguments and errors are those of `activations`; `path` is the file.

        Returns:
            The path of the file.
        """
        return await self._session.download(_activations(model, texts, select, intervention, options), Path(path))

    async def language_activity(
        self, /, model: str, text: Text, *, intervention: Intervention | Mapping[str, Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Return how active the neurons of each language are at each token of a text, steered or not.

        Args:
            model: The name of a model that the server offers.
            text: The text.
            intervention: What steers the model, as in `activations`.
            options: Other fields of `POST /activations/languages`: `neurons` and `adapter`.

        Returns:
            `languages`, `neurons` (of each language), `tokens`, and for each token and language `active`, the share of
            its neurons that are above 0, and `relative`, their sum divided by that of their largest recorded values.
        """
        body = {"model": model, "text": text, **options}
        return await self._session.json(_post("/activations/languages", body, intervention))


def _activations(
    model: str,
    texts: Sequence[Text],
    select: Mapping[str, Any],
    intervention: Intervention | Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Request:
    if isinstance(texts, str | Mapping):
        raise InvalidRequest("must be a list of texts; put the text into a list", param="texts")
    body = {"model": model, "texts": list(texts), "select": dict(select), **options}
    return _post("/activations", body, intervention)


def _post(path: str, body: Mapping[str, Any], intervention: Intervention | Mapping[str, Any] | None) -> Request:
    """Return a request that may be sent again, because it changes nothing."""
    content = {**body, "intervention": intervention_json(intervention)}
    return Request(method="POST", path=path, json=content, repeatable=True)
