"""Chats are formatted by the model's template, and nothing is added to its output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from ampsweep.domain.generation.prompt import ChatMessage, PromptOptions
from ampsweep.errors import InvalidRequest
from benchmarks.models.families import tiny_model
from engine.base import ScoreRequest
from engine.chat_template import read_chat_template, write_chat
from engine.tokenization import TextEncoder
from tests.engine.both_engines import CHAT_TEMPLATE
from tests.engine.tokenizers import byte_level

CHAT = (ChatMessage(role="user", content="the end?"), ChatMessage(role="assistant", content="no"))
WRITTEN = "<s>user: the end?\n<s>assistant: no\nassistant:\n"

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tiny_model("llama", tmp_path_factory.mktemp("chat"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return AutoTokenizer.from_pretrained(folder)


def encoder_of(tokenizer: Any) -> TextEncoder:
    return TextEncoder(tokenizer, embedding_rows=len(tokenizer))


def test_a_chat_ends_where_the_answer_begins(tokenizer: Any) -> None:
    assert write_chat(tokenizer, CHAT) == WRITTEN


def test_the_last_message_is_continued(tokenizer: Any) -> None:
    """As by Transformers: nothing that the template writes after the message is in the prompt."""
    continued = PromptOptions(continue_final_message=True)
    assert write_chat(tokenizer, CHAT, options=continued) == "<s>user: the end?\n<s>assistant: no"
    assert write_chat(tokenizer, CHAT[:1], options=continued) == "<s>user: the end?"
    empty = (CHAT[0], ChatMessage(role="assistant", content=""))
    assert write_chat(tokenizer, empty, options=continued) == "<s>user: the end?\n<s>assistant: "
    answered = PromptOptions(add_generation_prompt=False)
    assert write_chat(tokenizer, CHAT, options=answered) == "<s>user: the end?\n<s>assistant: no\n"


def test_a_template_that_changes_the_last_message_cannot_continue_it(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    continued = PromptOptions(continue_final_message=True)
    monkeypatch.setattr(tokenizer, "chat_template", "{% for m in messages %}{{ m.content | upper }}{% endfor %}")
    with pytest.raises(InvalidRequest, match="does not write the last message as it is") as refused:
        write_chat(tokenizer, CHAT, options=continued)
    assert refused.value.param == "continue_final_message"
    monkeypatch.setattr(tokenizer, "chat_template", PARTS)
    assert write_chat(tokenizer, CHAT, options=continued) == "user:the end?;assistant:no"


def test_a_template_reads_its_variables(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen3 writes an empty thought if thinking is off. A variable that is not read has no effect, as in vLLM."""
    template = (
        "{{ messages[0].content }}|{{ bos_token }}|{% for d in documents or [] %}{{ d.title }}{% endfor %}"
        "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", template)
    for variables, written in (
        ({}, "the end?|<s>|"),
        ({"enable_thinking": True, "not_read": {"a": [1]}}, "the end?|<s>|"),
        ({"enable_thinking": False, "documents": [{"title": "D"}]}, "the end?|<s>|D<think></think>"),
    ):
        assert write_chat(tokenizer, CHAT, options=PromptOptions(chat_template_kwargs=variables)) == written


def test_an_answer_is_scored_after_a_chat_with_its_variables(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same encoder scores with other variables, and remembers the tokens of each."""
    template = "<s>{{ messages[0].content }}{% if not enable_thinking | default(true) %} in the end{% endif %}:"
    monkeypatch.setattr(tokenizer, "chat_template", template)
    encoder = encoder_of(tokenizer)
    lengths = []
    for variables in ({}, {"enable_thinking": False}, {"enable_thinking": True}):
        request = ScoreRequest(context=CHAT, continuation="the north", chat_template_kwargs=variables)
        tokens = encoder.scored(request, max_tokens=100)
        assert tokens.context == encoder.prompt(
            CHAT, max_tokens=100, options=PromptOptions(chat_template_kwargs=variables)
        )
        lengths.append(len(tokens.context))
    assert lengths[0] == lengths[2] < lengths[1]


def test_a_variable_of_a_wrong_kind_is_rejected(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", "{{ messages[0].content }}{{ budget + 1 }}")
    with pytest.raises(InvalidRequest, match="fails with these variables") as refused:
        write_chat(tokenizer, CHAT, options=PromptOptions(chat_template_kwargs={"budget": "five"}))
    assert refused.value.param == "chat_template_kwargs"


def test_no_special_tokens_are_added_to_a_chat(tokenizer: Any) -> None:
    ids = encoder_of(tokenizer).prompt(CHAT, max_tokens=100)
    assert ids == tuple(tokenizer.encode(WRITTEN, add_special_tokens=False))
    assert ids.count(tokenizer.bos_token_id) == 2


def test_an_answer_is_scored_after_the_whole_formatted_chat(tokenizer: Any) -> None:
    tokens = encoder_of(tokenizer).scored(ScoreRequest(context=CHAT, continuation="the north"), max_tokens=100)
    assert tokens.context == encoder_of(tokenizer).prompt(CHAT, max_tokens=100)
    assert tokenizer.decode(tokens.continuation) == "the north"


def test_a_chat_that_cannot_be_formatted_is_rejected(tokenizer: Any) -> None:
    system = (ChatMessage(role="system", content="Be brief."),)
    for chat, why in (((), "at least one message"), (system, "rejects this chat: no system messages")):
        with pytest.raises(InvalidRequest, match=why) as caught:
            encoder_of(tokenizer).prompt(chat, max_tokens=100)
        assert caught.value.param == "messages"
    with pytest.raises(InvalidRequest, match="tokens, but this engine accepts at most 5"):
        encoder_of(tokenizer).prompt(CHAT, max_tokens=5)


PARTS = (
    "{% for message in messages %}{{ message['role'] }}:"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %};{% endfor %}"
)
"""A template that skips a content that is a text, as those of some models that take images do."""


def test_a_template_writes_tools_and_their_calls(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that a message does not have are undefined in the template, not null."""
    listed = "{% for tool in tools or [] %}[{{ tool.function.name }}]{% endfor %}"
    written = (
        "{% for message in messages %}{{ message.role }}:"
        "{% if message.tool_calls is defined %}{{ message.tool_calls[0].function.arguments.city }}{% endif %}"
        "{% if message.tool_call_id is defined %}({{ message.tool_call_id }}){% endif %}"
        "{{ message.content }};{% endfor %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", listed + written)
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": {"city": "Cairo"}}}
    chat = (
        ChatMessage(role="user", content="Weather?"),
        ChatMessage(role="assistant", content="", tool_calls=(call,)),
        ChatMessage(role="tool", content="sunny", tool_call_id="a"),
    )
    tool = {"type": "function", "function": {"name": "weather"}}
    assert write_chat(tokenizer, chat, tools=[tool]) == "[weather]user:Weather?;assistant:Cairo;tool:(a)sunny;"
    assert write_chat(tokenizer, chat) == "user:Weather?;assistant:Cairo;tool:(a)sunny;"
    monkeypatch.setattr(tokenizer, "chat_template", written)
    with pytest.raises(InvalidRequest, match="does not write the tool 'weather'") as refused:
        write_chat(tokenizer, chat, tools=[tool])
    assert refused.value.param == "tools.0"


def test_a_template_that_reads_parts_gets_parts(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", PARTS)
    assert write_chat(tokenizer, CHAT) == "user:the end?;assistant:no;"
    monkeypatch.setattr(tokenizer, "chat_template", "{{ ('About: ' + messages[-1].content) | upper }}")
    assert write_chat(tokenizer, CHAT) == "ABOUT: NO"


def test_a_model_without_a_template_is_rejected_with_a_remedy(tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(tiny_model("qwen2", tmp_path))
    with pytest.raises(InvalidRequest, match="send the prompt as text, or add a chat_template") as caught:
        encoder_of(tokenizer).scored(ScoreRequest(context=CHAT, continuation="x"), max_tokens=100)
    assert caught.value.param == "messages"


def in_config(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))


def in_jinja(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(TEMPLATE)


def in_json(folder: Path) -> None:
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": TEMPLATE}))


def in_additional(folder: Path, name: str = "default") -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / f"{name}.jinja").write_text(TEMPLATE)


@pytest.mark.parametrize("write", [in_config, in_jinja, in_json, in_additional])
def test_a_template_is_read_from_each_place(write: Callable[[Path], None], tmp_path: Path) -> None:
    byte_level().save_pretrained(tmp_path)
    write(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    read_chat_template(tokenizer, tmp_path)
    assert write_chat(tokenizer, (ChatMessage(role="user", content="hi"),)) == "user: hi"


def test_templates_without_a_default_are_listed(tmp_path: Path) -> None:
    byte_level().save_pretrained(tmp_path)
    in_additional(tmp_path, "rag")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    with pytest.raises(
        InvalidRequest, match=r"no default one \(rag\); copy one of additional_chat_templates"
    ) as caught:
        write_chat(tokenizer, (ChatMessage(role="user", content="hi"),))
    assert caught.value.param == "messages"


def test_a_json_file_without_a_template_is_rejected(tmp_path: Path) -> None:
    byte_level().save_pretrained(tmp_path)
    (tmp_path / "chat_template.json").write_text("[]")
    with pytest.raises(InvalidRequest, match=r"chat_template\.json of .* with the key chat_template"):
        read_chat_template(AutoTokenizer.from_pretrained(tmp_path), tmp_path)
