"""The methods of both clients, as coroutines: builds requests to the REST API and parses the responses.

Does not know whether an event loop runs it (see `ampsweep.client.http.transport`), nor when a request is retried. The
methods for sweeps, evaluations, completions and activations are in modules of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

from ampsweep.client.activations import ActivationMethods
from ampsweep.client.completions import CompletionMethods
from ampsweep.client.evaluations import EvaluationMethods
from ampsweep.client.http.session import Session, get, post, segment
from ampsweep.client.http.transport import Request
from ampsweep.client.models import DefaultNeuronSet, Engine, Model, NeuronSet
from ampsweep.client.sweeps import SweepMethods
from ampsweep.errors import AmpsweepError, EngineFailed

OfferKind = Literal["corpora", "data-sets", "tasks", "languages"]
"""The lists of what specs can name."""


class Api(SweepMethods, EvaluationMethods, CompletionMethods, ActivationMethods):
    """The REST API of a server. Errors of the server are raised as the exceptions of `ampsweep.errors`."""

    def __init__(self, session: Session) -> None:
        self.url = session.url
        self._session = session

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def ready(self) -> bool:
        """Return whether the server and its database answer and every model it offers has a ready engine."""
        try:
            await self._session.json_once(get(f"{self.url}/readyz"))
        except AmpsweepError:
            return False
        return True

    async def models(self) -> list[Model]:
        """Return the models the server offers."""
        return cast("list[Model]", [item async for item in self._session.pages("/models")])

    async def offers(self, kind: OfferKind) -> list[dict[str, Any]]:
        """Return what specs can name: the corpora, data sets, tasks or languages of the server.

        Raises:
            NotFound: There is no such list.
        """
        return [item async for item in self._session.pages(f"/{segment(kind)}")]

    async def engines(self) -> list[Engine]:
        """Return the engines of the server and their states."""
        return cast("list[Engine]", [item async for item in self._session.pages("/engines")])

    async def retry_engines(self, model: str) -> list[Engine]:
        """Restart now those engines of a model that have failed or wait for a restart; return the model's engines.

        Needs a key with the scope `admin`.

        Raises:
            NotFound: The model has no engine.
            Conflict: All its engines are ready.
        """
        body = await self._session.json(post(f"/engines/{_segments(model)}/retry"))
        return cast("list[Engine]", body["data"])

    async def neuron_sets(self, *, model: str | None = None, unfinished: bool = False) -> list[NeuronSet]:
        """Return the neuron sets of the server, oldest first; `languages` holds the number of neurons of each language.

        With `model`, return only those that can steer it; raise UnknownName if the server does not offer that model.
        With `unfinished`, those whose identification is in progress or has failed follow.
        """
        params = {} if model is None else {"model": model}
        listed = [item async for item in self._session.pages("/neuron-sets", **params)]
        kept = [item for item in listed if unfinished or item.get("status") == "completed"]
        return cast("list[NeuronSet]", kept)

    async def neuron_set(self, neuron_set_id: str, *, neurons: bool = False) -> NeuronSet:
        """Return a neuron set, with its neurons if `neurons` is true; raise NotFound if there is no such set."""
        params = {"include": "neurons"} if neurons else {}
        return cast("NeuronSet", await self._session.json(get(f"/neuron-sets/{segment(neuron_set_id)}", **params)))

    async def create_neuron_set(self, model: str, neurons: Mapping[str, Any]) -> NeuronSet:
        """Import a neuron set, or start its identification, and return it.

        Creating the same set twice returns the same set.

        Args:
            model: The model whose neurons they are.
            neurons: Either the neurons, {language: {layer: [index, ...]}}, or how to identify them, as in `neurons` of
                a spec. A set being identified is `in_progress`; `wait_for_neurons` waits for it.
        """
        body = {"model": model, "neurons": dict(neurons)}
        return cast(
            "NeuronSet",
            await self._session.json(Request(method="POST", path="/neuron-sets", json=body, repeatable=True)),
        )

    async def default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Return the neuron set used for requests to a model that name none: its default, or the only set it has."""
        return cast("DefaultNeuronSet", await self._session.json(get(_default_of(model))))

    async def set_default_neuron_set(self, model: str, neuron_set_id: str) -> DefaultNeuronSet:
        """Set the default neuron set of a model. Needs a key with the scope `admin`."""
        body = {"neuron_set": neuron_set_id}
        request = Request(method="PUT", path=_default_of(model), json=body, repeatable=True)
        return cast("DefaultNeuronSet", await self._session.json(request))

    async def clear_default_neuron_set(self, model: str) -> DefaultNeuronSet:
        """Clear the default neuron set of a model and return what applies then. Needs a key with the scope `admin`."""
        request = Request(method="DELETE", path=_default_of(model), repeatable=True)
        return cast("DefaultNeuronSet", await self._session.json(request))

    async def wait_for_neurons(self, neuron_set_id: str, *, interval: float = 1.0) -> NeuronSet:
        """Poll every `interval` seconds until a neuron set is ready and return it; EngineFailed if that fails."""
        while (neuron_set := await self.neuron_set(neuron_set_id))["status"] == "in_progress":
            await self._session.sleep(interval)
        if neuron_set["status"] == "failed":
            raise EngineFailed(f"{neuron_set_id} could not be identified: {neuron_set.get('error')}")
        return neuron_set


def _default_of(model: str) -> str:
    return f"/models/{_segments(model)}/default-neuron-set"


def _segments(model: str) -> str:
    """Return the name of a model, such as `organization/name`, as segments of a path."""
    return "/".join(map(segment, model.split("/")))
