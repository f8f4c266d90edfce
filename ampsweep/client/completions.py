"""The clients' methods for generation: completions and chats, whole or as a stream of pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ampsweep.client.http.errors import raise_error
from ampsweep.client.http.session import Session, post
from ampsweep.client.http.transport import Request
from ampsweep.client.models import Choice, Completion, Tokens
from ampsweep.domain.generation.prompt import ChatMessage
from ampsweep.errors import ConnectionLost

if TYPE_CHECKING:
    from ampsweep.domain.intervention import Intervention


class CompletionMethods:
    """Methods for `/v1/completions`, `/v1/chat/completions`, `/tokenize` and `/detokenize`."""

    _session: Session

    async def complete(
        self,
        /,
        model: str,
        prompt: str,
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Completion:
        """Complete a prompt.

        Args:
            model: The name of a model that the server offers.
            prompt: The text to continue.
            intervention: What steers generation, an `ampsweep.domain.intervention.Intervention` or its JSON form. None
                leaves the model unsteered.
            options: Other fields of `POST /v1/completions`: those of OpenAI (max_tokens, temperature, top_p, n, seed,
                stop, logprobs, logit_bias, response_format), those of vLLM for sampling (top_k, min_p,
                repetition_penalty, min_tokens, ignore_eos, stop_token_ids, bad_words, allowed_token_ids,
                structured_outputs), for the prompt (add_special_tokens, truncate_prompt_tokens, truncation_side) and
                for the text (include_stop_str_in_output, skip_special_tokens, spaces_between_special_tokens,
                return_token_ids), `priority`, `neurons`, the id of a neuron set (by default the model's default or only
                set), and `adapter`, the name of a LoRA adapter of the model.

        Returns:
            The completion with its `n` choices, the token counts, and the id of the neuron set that steered it.
        """
        body = {"model": model, "prompt": prompt, "intervention": intervention_json(intervention), **options}
        return _completion(await self._session.json(post("/completions", body)))

    async def stream(
        self,
        /,
        model: str,
        prompt: str,
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Choice]:
        """Complete a prompt as `complete` does, and yield the text in pieces. Closing the iterator stops generation."""
        body = {"model": model, "prompt": prompt, "intervention": intervention_json(intervention), **options}
        async with aclosing(self._pieces("/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def chat(
        self,
        /,
        model: str,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Completion:
        """Answer a chat.

        Args:
            model: The name of a model that the server offers.
            messages: The messages, each a `ChatMessage` or an object with `role` and `content`.
            intervention: What steers generation, an `ampsweep.domain.intervention.Intervention` or its JSON form. None
                leaves the model unsteered.
            options: As in `complete`, with the names of OpenAI's chat completions, `tools`, and
                `continue_final_message` (the answer continues the last message), `add_generation_prompt`,
                `chat_template_kwargs` (variables of the chat template), `reasoning_effort` and `documents`.

        Returns:
            The answer, as from `complete`.

        Example:
            >>> begun = [{"role": "user", "content": "Say it in French."}, {"role": "assistant", "content": "Oui,"}]
            >>> client.chat(  # doctest: +SKIP
            ...     "qwen", begun, continue_final_message=True, chat_template_kwargs={"enable_thinking": False}
            ... )
        """
        body = {
            "model": model,
            "messages": _messages(messages),
            "intervention": intervention_json(intervention),
            **options,
        }
        return _completion(await self._session.json(post("/chat/completions", body)))

    async def stream_chat(
        self,
        /,
        model: str,
        messages: Sequence[ChatMessage | Mapping[str, Any]],
        *,
        intervention: Intervention | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncGenerator[Choice]:
        """Answer a chat as `chat` does, and yield the text in pieces. Closing the iterator stops generation."""
        body = {
            "model": model,
            "messages": _messages(messages),
            "intervention": intervention_json(intervention),
            **options,
        }
        async with aclosing(self._pieces("/chat/completions", body)) as pieces:
            async for piece in pieces:
                yield piece

    async def tokenize(
        self, /, model: str, prompt: str | Sequence[ChatMessage | Mapping[str, Any]], **options: Any
    ) -> Tokens:
        """Return the tokens of a text or a chat, as `complete` and `chat` would send them to the model.

        Args:
            model: The name of a model that the server offers.
            prompt: A text, or the messages of a chat.
            options: Other fields of `POST /tokenize`: add_special_tokens, add_generation_prompt,
                continue_final_message, chat_template_kwargs, documents, tools, return_token_strs.

        Raises:
            InvalidRequest: The model is unknown, or has no chat template for `messages`.
            PromptTooLong: The prompt is longer than the server accepts.
        """
        field = {"prompt": prompt} if isinstance(prompt, str) else {"messages": _messages(prompt)}
        return Tokens.model_validate(
            await self._session.json(self._root("tokenize", {"model": model, **field, **options}))
        )

    async def detokenize(self, /, model: str, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included; raise InvalidRequest for an id that does not exist."""
        body = {"model": model, "tokens": list(tokens)}
        return str((await self._session.json(self._root("detokenize", body)))["prompt"])

    def _root(self, path: str, body: Mapping[str, Any]) -> Request:
        """Return a request to a path that is not below `/v1`, as on vLLM's server."""
        return Request(method="POST", path=f"{self._session.url}/{path}", json=body, repeatable=True)

    async def _pieces(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Choice]:
        async with aclosing(self._session.server_events(post(path, {**body, "stream": True}))) as events:
            async for event in events:
                if event.data == "[DONE]":
                    return
                piece = raise_error(json.loads(event.data))
                for choice in piece["choices"]:
                    yield _choice(choice, piece)
        raise ConnectionLost(f"the stream of {self._session.url} ended before the text; a proxy may have cut it off")


def intervention_json(intervention: Intervention | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the JSON form of an intervention, which may be given in this form."""
    return intervention if intervention is None or isinstance(intervention, Mapping) else intervention.to_dict()


def _messages(messages: Sequence[ChatMessage | Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [message.to_dict() if isinstance(message, ChatMessage) else message for message in messages]


def _completion(content: Mapping[str, Any]) -> Completion:
    choices = tuple(_choice(choice, content) for choice in content["choices"])
    return Completion.model_validate(
        {"choices": choices, "usage": content["usage"], "neuron_set": content.get("neuron_set")}
    )


def _choice(content: Mapping[str, Any], response: Mapping[str, Any]) -> Choice:
    """Parse a choice of a response: a completion, a chat completion, or a chunk of the stream of either."""
    message = content.get("message") or content.get("delta")
    text = content.get("text") if message is None else message.get("content")
    of_response = {key: response.get(key) for key in ("prompt_token_ids", "prompt_logprobs")}  # those of a chat
    return Choice.model_validate(
        {**of_response, **content, "text": text or "", "neuron_set": response.get("neuron_set")}
    )
