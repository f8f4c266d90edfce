"""Model provider of Inspect: `inspect eval TASK --model ampsweep/NAME -M intervention=...`.

Inspect loads it by its entry point. The server is that of `--model-base-url` or AMPSWEEP_URL, and the API key that of
AMPSWEEP_API_KEY.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    TopLogprob,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from ampsweep.client import AsyncClient
from ampsweep.client.models import Choice, Completion
from ampsweep.errors import InvalidRequest, PromptTooLong, RateLimited, Unavailable
from ampsweep.inspect_options import chat_fields

DEFAULT_TOKENS = 1024
"""Maximum number of tokens of an answer if the evaluation sets none, as in `POST /v1/chat/completions`."""
_NO_TOOLS = "the ampsweep provider does not support tools; choose an evaluation without tools"


@modelapi(name="ampsweep")  # type: ignore[untyped-decorator]
def ampsweep() -> type[ModelAPI]:
    """Return the class of the provider, which Inspect finds by this name."""
    return AmpsweepAPI


class AmpsweepAPI(ModelAPI):  # type: ignore[misc]  # Inspect is not installed where types are checked
    """A model of an Ampsweep server, steered by an intervention or not.

    Args:
        model_name: The name of the model, or with a named intervention `NAME+PRESET`.
        base_url: The URL of the server.
        api_key: The API key.
        config: Inspect's settings of generation.
        intervention: The intervention, as an object, as JSON text, or by its name on the server.
        neurons: The id of the neuron set.
        adapter: The name of a LoRA adapter of the model.
        chat: Whether the model answers a chat. If false, it continues the text of the messages, as models without a
            chat template can.
        timeout: Seconds to wait for an answer.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  # as Inspect's own providers have it
        *,
        intervention: Mapping[str, Any] | str | None = None,
        neurons: str | None = None,
        adapter: str | None = None,
        chat: bool = True,
        timeout: float = 600.0,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._model, own = _steered(model_name, intervention)
        optional = {"intervention": own, "neurons": neurons, "adapter": adapter}
        self._fields = {name: value for name, value in optional.items() if value is not None}
        self._chat = chat
        self._timeout = timeout
        self.initialize()

    def initialize(self) -> None:
        """Open the client; Inspect calls this again before it uses a provider that it has closed."""
        super().initialize()
        url = None if self.base_url is None else self.base_url.rstrip("/").removesuffix("/v1")
        self._client = AsyncClient(url, api_key=self.api_key, timeout=self._timeout)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.close()

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  # the name in Inspect's interface
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Answer a chat.

        Raises:
            InvalidRequest: The evaluation uses tools, messages that are not text, or a setting without a counterpart.
        """
        del tool_choice
        if tools:
            raise InvalidRequest(_NO_TOOLS, param="tools")
        try:
            completion = await self._complete([_message(message) for message in input], config)
        except PromptTooLong as error:
            return ModelOutput.from_content(self.model_name, error.message, stop_reason="model_length")
        return _output(self.model_name, completion)

    async def _complete(self, messages: list[dict[str, str]], config: GenerateConfig) -> Completion:
        settings = config.model_dump(mode="json", exclude_none=True)
        fields = chat_fields(settings, of_provider=self._fields)
        if self._chat:
            return await self._client.chat(self._model, messages, **fields)
        if config.logprobs:
            raise InvalidRequest("logprobs is not supported with chat=false; omit one of them", param="logprobs")
        fields["max_tokens"] = fields.pop("max_completion_tokens", DEFAULT_TOKENS)
        return await self._client.complete(self._model, "\n\n".join(turn["content"] for turn in messages), **fields)

    def max_tokens(self) -> int:
        """Return the maximum number of tokens of an answer if the evaluation sets none."""
        return DEFAULT_TOKENS

    def should_retry(self, ex: Exception) -> bool:
        """Return whether the same request may succeed later."""
        return isinstance(ex, Unavailable | RateLimited)

    def connection_key(self) -> str:
        """Return the key under which Inspect limits connections: the URL of the server."""
        return str(self.base_url)


def _steered(model_name: str, intervention: Mapping[str, Any] | str | None) -> tuple[str, Mapping[str, Any] | None]:
    """Return the name of the model with the intervention's, if it has one, and the intervention itself otherwise."""
    if not isinstance(intervention, str):
        return model_name, intervention
    if not intervention.lstrip().startswith("{"):
        return f"{model_name}+{intervention}", None
    try:
        parsed: Mapping[str, Any] = json.loads(intervention)
    except ValueError as error:
        raise InvalidRequest(f"intervention is not valid JSON: {error}", param="intervention") from error
    return model_name, parsed


def _message(message: ChatMessage) -> dict[str, str]:
    if message.role == "tool":
        raise InvalidRequest(_NO_TOOLS, param="tools")
    if not isinstance(message.content, str) and any(part.type not in ("text", "reasoning") for part in message.content):
        raise InvalidRequest(
            "the ampsweep provider sends text only; choose an evaluation without images, audio or video",
            param="messages",
        )
    return {"role": message.role, "content": message.text}


def _output(model_name: str, completion: Completion) -> ModelOutput:
    usage = completion.usage
    return ModelOutput(
        model=model_name,
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=choice.text, model=model_name, source="generate"),
                stop_reason="max_tokens" if choice.finish_reason == "length" else "stop",
                logprobs=_logprobs(choice),
            )
            for choice in completion.choices
        ],
        usage=ModelUsage(
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            total_tokens=usage.total_tokens,
        ),
        metadata={"neuron_set": completion.neuron_set},
    )


def _logprobs(choice: Choice) -> Logprobs | None:
    content: Sequence[Mapping[str, Any]] = (choice.logprobs or {}).get("content") or ()
    if not content:
        return None
    return Logprobs(
        content=[
            Logprob(
                token=token["token"],
                logprob=token["logprob"],
                bytes=token["bytes"],
                top_logprobs=[
                    TopLogprob(token=top["token"], logprob=top["logprob"], bytes=top["bytes"])
                    for top in token["top_logprobs"]
                ],
            )
            for token in content
        ]
    )
