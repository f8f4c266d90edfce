"""Instructions to answer in a language, which prompt baselines put in front of a task's prompts.

The texts are in `instructions.yaml`, which describes its format. Any other language that has an English name has an
instruction in English only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

from ampsweep.documents import parse_yaml
from ampsweep.domain.generation.prompt import ChatMessage, Prompt
from ampsweep.domain.languages.names import english_name
from ampsweep.domain.languages.unknown import unknown_language

PromptMethod = Literal["prompt_en", "prompt_native"]
"""Whether an instruction is in English or in the language that it asks for."""

SEPARATOR = "\n\n"
"""Separates an instruction from the prompt that follows it."""


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """An instruction to answer in a language.

    Attributes:
        method: The language that the instruction is written in.
        language: Code of the language to answer in.
        text: The instruction.
    """

    method: PromptMethod
    language: str
    text: str

    def before(self, prompt: Prompt) -> Prompt:
        r"""Return a prompt that begins with the instruction. In a chat, the last message of the user begins with it.

        Example:
            >>> instruction = Instruction(method="prompt_en", language="fr", text="Answer only in French.")
            >>> instruction.before("What is tea?")
            'Answer only in French.\n\nWhat is tea?'
        """
        if isinstance(prompt, str):
            return f"{self.text}{SEPARATOR}{prompt}"
        last = max((index for index, message in enumerate(prompt) if message.role == "user"), default=None)
        if last is None:
            return (ChatMessage(role="user", content=self.text), *prompt)
        content = f"{self.text}{SEPARATOR}{prompt[last].content}"
        return (*prompt[:last], replace(prompt[last], content=content), *prompt[last + 1 :])


def instruction_for(language: str, method: PromptMethod, *, param: str | None = None) -> Instruction:
    """Return the instruction to answer in a language.

    Raises:
        UnknownName: There is none for the language; lists those of the file. `param` is the field to name.
    """
    texts = _texts()
    if language not in texts and method == "prompt_en" and (name := english_name(language)):
        return Instruction(method=method, language=language, text=f"Answer only in {name}.")
    if language not in texts:
        raise unknown_language("language with an instruction", language, texts, param=param)
    return Instruction(method=method, language=language, text=texts[language][method])


@cache
def _texts() -> Mapping[str, Mapping[PromptMethod, str]]:
    content = files("jobs").joinpath("instructions.yaml").read_text(encoding="utf-8")
    texts: Mapping[str, Mapping[PromptMethod, str]] = parse_yaml(content)
    return texts
