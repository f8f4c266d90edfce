from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from ampsweep.domain.neurons.neuron_set import IdentificationRequest
from ampsweep.errors import InvalidRequest
from ampsweep.folders.corpus import Corpus
from benchmarks.models.families import tiny_model
from engine.hf.engine import TransformersEngine
from engine.identify.identification import identify
from engine.identify.published import UNCOUNTED, published_denominators, template_tokens
from tests.engine.forward import HandModel
from tests.engine.identify.counts import make_stats

TEMPLATE = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }} and the rest of it\n{% endfor %}assistant:\n"
TEXTS = {
    "en": ["The end of the thing.", "In the north there is another one.", "It rains.", "And then they went on."],
    "ja": ["北の果てにもう一つある。", "雨が降る。", "それから彼らは行った。"],
    "tr": ["Şeyin sonu.", "Kuzeyde bir tane daha var.", "Yağmur yağıyor."],
}
TOP = 0.1


def test_lape_in_mode_paper_equals_the_published_rule_on_stored_activations(tmp_path: Path) -> None:
    folder = tiny_model("qwen2", tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    texts = tmp_path / "few-words"
    texts.mkdir()
    for code, lines in TEXTS.items():
        (texts / f"{code}.txt").write_text("\n".join(lines), encoding="utf-8")
    engine, corpus = TransformersEngine(folder), Corpus.open(texts)
    paper, corrected = (
        asyncio.run(identify(engine, corpus, IdentificationRequest.of(method, {"top_rate": TOP})))
        for method in ("lape_paper", "lape")
    )
    expected = published_rule(folder, engine)
    assert {code: pairs.tolist() for code, pairs in paper.neurons.items()} == expected
    assert any(expected.values())
    assert {code: pairs.tolist() for code, pairs in corrected.neurons.items()} != expected
    assert paper.id != corrected.id


def published_rule(folder: Path, engine: TransformersEngine) -> dict[str, list[list[int]]]:
    """Return the neurons that the published code selects from stored activations.

    It counts over bare sentences and divides by their tokens inside the template, minus five.
    """
    hand, tokenizer = HandModel(folder), engine._model.tokenizer
    over_zero, n = [], []
    for lines in TEXTS.values():
        stored = torch.cat([torch.stack(hand.activations(tokenizer.encode(line)), dim=1) for line in lines])
        over_zero.append((stored > 0).sum(dim=0))
        around = len(tokenizer.encode("<s>user: x and the rest of it\nassistant:")) - len(tokenizer.encode("x"))
        n.append(sum(len(tokenizer.encode(line)) + around - UNCOUNTED for line in lines))
    p = torch.stack(over_zero, dim=-1).double() / torch.tensor(n)
    q = torch.nan_to_num(p / p.sum(dim=-1, keepdim=True))
    entropy = -torch.where(q > 0, q * q.clamp(min=1e-300).log(), 0.0).sum(dim=-1)
    flat = p.flatten()
    bar = flat.kthvalue(round(len(flat) * 0.95)).values
    entropy[(p > bar).sum(dim=-1) == 0] = torch.inf
    order = torch.argsort(entropy.flatten().round(decimals=12), stable=True)[: round(entropy.numel() * TOP)]
    chosen = [int(neuron) for neuron in order if torch.isfinite(entropy.flatten()[neuron])]
    width = entropy.shape[1]
    return {
        code: sorted(
            [neuron // width, neuron % width] for neuron in chosen if p[neuron // width, neuron % width, index] > bar
        )
        for index, code in enumerate(TEXTS)
    }


def test_template_tokens_exclude_the_header_of_the_answer(tmp_path: Path) -> None:
    folder = tiny_model("qwen2", tmp_path / "model")
    assert asyncio.run(template_tokens(TransformersEngine(folder))) == 0
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    engine = TransformersEngine(folder)
    tokenizer = engine._model.tokenizer
    around = len(tokenizer.encode("<s>user: x and the rest of it\nassistant:")) - len(tokenizer.encode("x"))
    assert asyncio.run(template_tokens(engine)) == around - UNCOUNTED > 0


def test_a_mixture_of_experts_has_no_published_denominators() -> None:
    stats = make_stats([[[1, 2]]], [3], reached=[[[2, 3]]])
    with pytest.raises(InvalidRequest, match="lape_paper is not defined for a mixture of experts"):
        published_denominators(stats, template_tokens=4)
