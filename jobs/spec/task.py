"""A task of a spec, on some data languages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ampsweep.domain.generation.chat_template import TemplateVariables
from ampsweep.domain.generation.sampling import AnswerCount, MaxTokens, SamplingSeed, Temperature, TopP
from ampsweep.domain.validation import Languages, Name, StrictModel


class TaskSpec(StrictModel):
    """A task on some data languages.

    Attributes:
        name: The name of the task (`jobs.tasks.registry`).
        languages: Data languages; for lss the base languages.
        targets: Target languages of the sweep that the task is asked with; all by default.
        limit: Number of items; all by default.
        split: Split of the data; that of the task by default.
        data: Name of the data set; that of the task by default.
        chat: Whether the model is asked through its chat template.
        chat_template_kwargs: Variables of the chat template, such as `enable_thinking`.
        facts: For lss: `shared` (the default) asks only facts that all of the task's languages have, `any` asks the
            facts that both languages of a pair have.
        max_tokens: Number of tokens of an answer, at most. This field and the next four are for tasks whose answers
            are sampled (`jobs.tasks.sampled_task`), which have defaults for them.
        temperature: Divisor of the logits; 0 is greedy.
        top_p: Keep the likeliest tokens whose probabilities together reach this sum.
        n: Number of answers to each prompt.
        seed: Seed that the seeds of the answers are derived from; the sweep's by default.
    """

    name: Name
    languages: Languages
    targets: Languages | None = None
    limit: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    split: Name | None = None
    data: Name | None = None
    chat: bool = False
    chat_template_kwargs: TemplateVariables | None = None
    facts: Literal["shared", "any"] | None = None
    max_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: AnswerCount | None = None
    seed: SamplingSeed | None = None

    @property
    def sampling(self) -> dict[str, int | float]:
        """The sampling options that are given, by name."""
        options = {name: getattr(self, name) for name in ("max_tokens", "temperature", "top_p", "n", "seed")}
        return {name: value for name, value in options.items() if value is not None}
