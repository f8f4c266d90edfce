"""A folder of small groups of lm-eval: nested, with a tag, with tasks of different sizes in different folders."""

from __future__ import annotations

from pathlib import Path

from tests.jobs.cluster import write_jsonl
from tests.jobs.tasks.lm_eval.tiny_tasks import ROWS

SIZES = {"tiny_chemistry": 3, "tiny_physics": 2, "tiny_history": 5}
"""Number of documents of each task of the group `tiny_exam`, in the group's order."""
_TASK = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} {name}:"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
_GROUPS = {
    "tiny_exam": """task: [tiny_exam_science, tiny_history_tasks]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
  - {metric: acc_norm, weight_by_size: false}
""",
    "tiny_exam_science": """task: [tiny_chemistry, tiny_physics]
aggregate_metric_list: {metric: acc, filter_list: none}
""",
    "tiny_list": "task: [tiny_physics, tiny_history]\n",
    "tiny_mixed": """task: [tiny_choice, tiny_until]
aggregate_metric_list: [{metric: exact_match}]
""",
    "tiny_absent": """task: [tiny_physics]
aggregate_metric_list: [{metric: f1}]
""",
    "tiny_twice": """task: [tiny_exam_science, tiny_physics]
aggregate_metric_list: [{metric: acc}]
""",
    "tiny_lost": """task: [tiny_physics, tiny_alchemy]
aggregate_metric_list: [{metric: acc}]
""",
    "tiny_exam_fr": """task: [tiny_physics]
aggregate_metric_list: [{metric: acc}]
""",
}


def write_groups(folder: Path) -> Path:
    for name, size in SIZES.items():
        place = folder / "history" if name == "tiny_history" else folder / "science"
        place.mkdir(parents=True, exist_ok=True)
        write_jsonl(place / f"{name}.jsonl", [{**row, "label": (row["label"] + size) % 2} for row in ROWS[-size:]])
        tag = "tag: tiny_history_tasks\n" if name == "tiny_history" else ""
        text = _TASK.format(name=name, data=place / f"{name}.jsonl")
        (place / f"{name}.yaml").write_text(text + tag, encoding="utf-8")
    for name, body in _GROUPS.items():
        place = folder / "science" if name.endswith("science") else folder
        (place / f"_{name}.yaml").write_text(f"group: {name}\n{body}", encoding="utf-8")
    return folder
