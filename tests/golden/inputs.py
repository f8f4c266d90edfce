"""The data that the golden cells are planned on: a model, a corpus, facts, a data set of each task and neuron sets.

Every byte that enters a hash is written here. Do not share these files with other tests: whoever changes them changes
the ids in `cells.json` and `neuron_sets.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ampsweep.domain.neurons.neuron_set_metadata import NeuronSetMetadata
from jobs.neuron_sets.registry import NeuronSets
from jobs.planning.catalog import Catalog

_OBJECTS = {
    "FR": {"en": "Paris", "fr": "Paris", "tr": "Paris", "zh": "巴黎"},
    "GB": {"en": "London", "fr": "Londres", "tr": "Londra", "zh": "伦敦"},
    "PL": {"en": "Warsaw", "fr": "Varsovie", "tr": "Varşova", "zh": "华沙"},
    "GR": {"en": "Athens", "fr": "Athènes", "tr": "Atina", "zh": "雅典"},
    "CN": {"en": "Beijing", "fr": "Pékin", "tr": "Pekin", "zh": "北京"},
}
_TEMPLATES = {
    "en": "The capital of [X] is [Y].",
    "fr": "La capitale de [X] est [Y].",
    "tr": "[X] ülkesinin başkenti [Y].",
    "zh": "[X]的首都是[Y]。",
}
_XCOPA = [
    {"idx": 0, "premise": "A.", "choice1": "B.", "choice2": "C.", "question": "cause", "label": 0},
    {"idx": 1, "premise": "D.", "choice1": "E.", "choice2": "F.", "question": "effect", "label": 1},
]
_XWINOGRAD = [{"sentence": "La coupe est lourde, _ est pleine.", "option1": "elle", "option2": "il", "label": 0}]
_INCLUDE = [{"id": "q7", "question": "Les voyants sont :", "choices": ["1", "2", "3", "4"], "label": 1}]
_FLORES = {
    "eng_Latn": "Good morning.\nHow are you?\n",
    "fra_Latn": "Bonjour.\nÇa va ?\n",
    "tur_Latn": "Günaydın.\nNasılsın?\n",
}
_LM_EVAL_ROWS = [
    {"question": f"What comes after {index}?", "choices": [str(index + 1), "in"], "label": 0} for index in range(4)
]
_LM_EVAL_TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: rows.jsonl}}}}
test_split: test
output_type: {kind}
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{choices[0]}}}}"
{more}
metadata: {{version: 1.0}}
"""
_LM_EVAL_TASKS = (
    ("golden_until", "generate_until", "generation_kwargs: {until: [e], max_gen_toks: 12, do_sample: false}"),
    ("golden_likelihood_fr", "loglikelihood", "num_fewshot: 0"),
)
_NEURONS: dict[str, dict[str, Any]] = {
    "ns_golden": {"languages": {"en": 2, "fr": 3, "tr": 1, "zh": 4}, "patch": ("max", "median", "mean")},
    "ns_imported": {"languages": {"fr": 2, "tr": 2}, "patch": ()},
}


def write_inputs(folder: Path) -> tuple[Catalog, NeuronSets]:
    """Write the data below `folder`; return the catalog and the neuron sets of a server that has it."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"num_hidden_layers": 3, "intermediate_size": 8}))
    (model / "model.safetensors").write_bytes(b"weights")
    corpus = folder / "corpus"
    corpus.mkdir()
    for language in ("en", "fr", "tr", "zh"):
        (corpus / f"{language}.txt").write_text(f"One sentence in {language}.\nAnother one.\n", encoding="utf-8")
    _write_facts(folder / "atlas", missing=())
    data = folder / "data"
    _write_facts(data / "sparse", missing=(("FR", "fr"), ("GB", "tr")))
    for language in ("it", "zh", "tr"):
        _write_rows(data / "xcopa" / f"test.{language}.jsonl", _XCOPA)
        _write_rows(data / "xcopa" / f"val.{language}.jsonl", _XCOPA[:1])
    _write_rows(data / "xwinograd" / "fr.jsonl", _XWINOGRAD)
    _write_rows(data / "include" / "fr.jsonl", _INCLUDE)
    for split in ("dev", "devtest"):
        for name, text in _FLORES.items():
            _write_text(data / "flores200" / split / f"{name}.txt", text)
    _write_rows(data / "prompts" / "fr.jsonl", [{"prompt": "Il était une fois"}, {"prompt": "Demain"}])
    lm_eval = folder / "lm_eval"
    _write_rows(lm_eval / "rows.jsonl", _LM_EVAL_ROWS)
    for name, kind, more in _LM_EVAL_TASKS:
        _write_text(lm_eval / f"{name}.yaml", _LM_EVAL_TASK.format(name=name, kind=kind, more=more))
    _write_adapter(folder / "adapter")
    catalog = Catalog(
        models={"tiny": model},
        adapters={"tiny": {"formal": folder / "adapter"}},
        corpora={"small": corpus},
        atlas=folder / "atlas",
        data=data,
        lm_eval=lm_eval,
        engine="fake",
    )
    neuron_sets = NeuronSets(folder / "neurons")
    for name, changes in _NEURONS.items():
        metadata = NeuronSetMetadata(
            id=name,
            model="tiny",
            fingerprint=catalog.model("tiny").fingerprint,
            method="lape",
            params={},
            corpus="small",
            corpus_hash="c",
            layers=3,
            width=8,
            sha256="",
            **changes,
        )
        _write_text(folder / "neurons" / name / "metadata.json", metadata.to_json())
    return catalog, neuron_sets


def _write_facts(folder: Path, *, missing: tuple[tuple[str, str], ...]) -> None:
    facts = [
        {
            "id": f"capital-{code}",
            "relation": "capital",
            "subject": {language: f"{code}-{language}" for language in names},
            "object": {language: name for language, name in names.items() if (code, language) not in missing},
        }
        for code, names in _OBJECTS.items()
    ]
    templates = [
        {"relation": "capital", "language": language, "template": text, "held_out": False}
        for language, text in _TEMPLATES.items()
    ]
    _write_rows(folder / "facts.jsonl", facts)
    _write_rows(folder / "templates.jsonl", templates)


def _write_adapter(folder: Path) -> None:
    """Write a LoRA adapter of rank 1, byte by byte."""
    prefix = "base_model.model.model.layers.0.mlp.up_proj"
    header = {
        f"{prefix}.lora_A.weight": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]},
        f"{prefix}.lora_B.weight": {"dtype": "F32", "shape": [8, 1], "data_offsets": [8, 40]},
    }
    content = json.dumps(header).encode()
    _write_text(folder / "adapter_config.json", json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}))
    (folder / "adapter_model.safetensors").write_bytes(len(content).to_bytes(8, "little") + content + bytes(40))


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    _write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
