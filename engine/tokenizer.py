"""The parts of a Hugging Face tokenizer that the engines use."""

from __future__ import annotations

from typing import Any, Protocol


class Encoder(Protocol):
    """Encodes text."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the ids of a text."""
        ...


class Decoder(Protocol):
    """Decodes tokens."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool) -> str:
        """Return the text of some tokens."""
        ...

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        """Return each token as the vocabulary writes it; None for an id that does not exist."""
        ...


class ChatFormatter(Protocol):
    """Formats chats."""

    chat_template: str | dict[str, str] | None

    def apply_chat_template(
        self,
        conversation: list[dict[str, Any]],
        *,
        tools: list[dict[str, Any]] | None,
        tokenize: bool,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> Any:
        """Return the text of a chat."""
        ...


class Tokenizer(Encoder, Decoder, ChatFormatter, Protocol):
    """All of these parts."""

    bos_token_id: int | None
    eos_token_id: int | None
    all_special_ids: list[int]

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token, added tokens included."""
        ...
