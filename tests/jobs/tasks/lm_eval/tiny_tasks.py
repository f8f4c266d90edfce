"""A folder of small lm-eval tasks, one of each kind, as an operator would write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.jobs.cluster import write_jsonl

ROWS: list[dict[str, Any]] = [
    {
        "question": f"In which country is the city of {('Ankara', 'Paris')[index % 2]}, and what comes after {index}?",
        "choices": [str(index + 1), "the thing", "in"][: 2 + index % 2],
        "label": index % 2,
        "text": f"There are {index} things in the garden, and the rest is on the hill.",
    }
    for index in range(10)
]
_HEAD = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {{test: {data}}}
test_split: test
fewshot_split: test
metadata: {{version: 1.0}}
"""
_BODIES = {
    "tiny_choice": """output_type: multiple_choice
num_fewshot: 2
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
    "tiny_likelihood": """output_type: loglikelihood
doc_to_text: "{{text}} "
doc_to_target: "{{choices[0]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "tiny_rolling": """output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{text}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
""",
    "tiny_until": """output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: "{{choices[0]}}"
process_docs: !function own.even
generation_kwargs: {until: ["e", "\\n\\n"], max_gen_toks: 12}
filter_list:
  - {name: letter, filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
  - {metric: chrf, aggregation: chrf, higher_is_better: true}
""",
    "tiny_en": """output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
""",
}
NAMES = ("tiny_choice", "tiny_likelihood", "tiny_rolling", "tiny_until")
_PYTHON_CODE = """def even(dataset):
    return dataset.select(range(0, len(dataset), 2))
"""


def write_tasks(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "rows.jsonl", ROWS)
    for name, body in _BODIES.items():
        head = _HEAD.format(name=name, data=folder / "rows.jsonl")
        (folder / f"{name}.yaml").write_text(head + body, encoding="utf-8")
    (folder / "own.py").write_text(_PYTHON_CODE, encoding="utf-8")
    return folder
