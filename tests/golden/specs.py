"""The specs behind `cells.json`: together they use every feature of a sweep that can change a cell's id."""

from __future__ import annotations

from typing import Any

_XCOPA = [{"name": "xcopa", "languages": ["it"]}]
_LSS = [{"name": "lss", "languages": ["en"]}]
_FLORES_LANGUAGES = ["fr", "tr"]


def _spec(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "neurons": {"method": "lape", "corpus": "small", "languages": ["en", "fr", "tr"]},
        "interventions": {"languages": ["fr"], "op": "scale", "factors": [2]},
        "tasks": _XCOPA,
        **changes,
    }


def _steered(**intervention: Any) -> dict[str, Any]:
    return _spec(interventions={"languages": ["fr"], **intervention})


def _task(name: str, *languages: str, **more: Any) -> dict[str, Any]:
    return _spec(tasks=[{"name": name, "languages": list(languages), **more}])


def _neurons(method: str, *languages: str, **params: Any) -> dict[str, Any]:
    return _spec(neurons={"method": method, "corpus": "small", "languages": list(languages), **params})


SPECS: dict[str, dict[str, Any]] = {
    "op: scale, several factors": _steered(op="scale", factors=[-1.5, 0, 0.5, 1, 2, 1000]),
    "op: add": _steered(op="add", factors=[0.25, -3]),
    "op: set": _steered(op="set", factors=[0]),
    "patch: max": _steered(op="set", patch="max"),
    "patch: every one, with factors": _steered(op="add", patch=["max", "median", "mean"], factors=[0.5, 1]),
    "statistic: every one": _steered(op="add", statistic=["mean", "std", "median", "max", "iqr", "mad"]),
    "statistic: percentiles, with factors": _steered(op="set", statistic=["p5", "p97.50", "p100"], factors=[1, 2]),
    "weights: one a language": _spec(
        interventions={"languages": {"fr": 0.5, "tr": 1, "en": 2}, "op": "add", "factors": [2]}
    ),
    "languages: the neuron set's": _spec(interventions={"op": "scale", "factors": [2]}),
    "languages: other codes of the same": _spec(
        neurons={"method": "lape", "corpus": "small", "languages": ["en", "fra", "tur_Latn"]},
        interventions={"languages": ["fra"], "op": "scale", "factors": [2]},
    ),
    "layers: each": _steered(op="scale", factors=[2], layers="each"),
    "layers: a list": _steered(op="scale", factors=[2], layers=[2, 0]),
    "scope: prompt": _steered(op="scale", factors=[2], scope="prompt"),
    "scope: generation": _steered(op="scale", factors=[2], scope="generation"),
    "tokens: a slice, with vectors and controls": _steered(
        op="add",
        factors=[2],
        scope="prompt",
        tokens={"start": -4},
        controls=["zero"],
        baselines=[{"method": "diffmean", "factors": [4]}],
    ),
    "tokens: positions": _steered(op="scale", factors=[2], scope="generation", tokens={"positions": [3, 0]}),
    "controls: random and other": {
        **_steered(op="scale", factors=[2], controls=["random", "other"]),
        "seed": 7,
    },
    "controls: other, where the next language is the data's": _spec(
        interventions={"languages": ["en"], "op": "scale", "factors": [2], "controls": ["other"]},
        tasks=[{"name": "lss", "languages": ["fr"]}],
    ),
    "controls: zero and non_language": _steered(op="add", factors=[2], controls=["zero", "non_language"]),
    "controls: random, three draws": {
        **_steered(op="scale", factors=[2], controls=["random"], random_draws=3),
        "seed": 7,
    },
    "controls: repeat": _steered(op="scale", factors=[2], controls=["repeat"]),
    "baselines: prompts": _spec(
        interventions={
            "languages": ["fr", "tr"],
            "op": "scale",
            "factors": [2],
            "baselines": ["prompt_en", "prompt_native"],
        },
        tasks=[*_XCOPA, *_LSS],
    ),
    "patch: difference, source": _spec(
        interventions={
            "languages": {"fr": -0.5, "tr": 1},
            "op": "add",
            "patch": "difference",
            "source": {"op": "set", "factor": 0},
        },
        tasks=_LSS,
    ),
    "non_target": _steered(op="set", patch="max", non_target={"op": "scale", "factor": 0}),
    "neurons: by id": _spec(neurons={"id": "ns_golden"}),
    "neurons: by id, imported": _spec(neurons={"id": "ns_imported"}),
    "neurons: lape with parameters": _neurons(
        "lape", "en", "fr", "tr", top_rate=0.02, filter_rate=0.9, activation_bar=0.8
    ),
    "neurons: activated": _neurons("activated", "fr"),
    "neurons: act_prob": _neurons("act_prob", "fr", "tr", k=5),
    "neurons: average_precision": _neurons("average_precision", "fr", "tr", k=5),
    "neurons: random": _neurons("random", "tr", "fr", "en", seed=3, top_rate=0.05),
    "mode: paper": {**_steered(op="scale", factors=[0.5, 2.7, -1.5]), "mode": "paper"},
    "mode: both": {**_steered(op="scale", factors=[2]), "mode": ["corrected", "paper"], "tasks": _LSS},
    "mode: paper, statistic": {**_steered(op="add", statistic="mean"), "mode": "paper"},
    "seed": {**_spec(), "seed": 2**63 - 1},
    "search: halving": _spec(
        interventions={"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 1, 2, 4], "controls": ["random"]},
        tasks=[*_LSS, *_XCOPA],
        search={"method": "halving", "items": 1, "keep": 1},
    ),
    "task: lss": _spec(
        interventions={"languages": ["fr", "tr"], "op": "scale", "factors": [2]},
        tasks=[{"name": "lss", "languages": ["en", "zh"]}],
    ),
    "task: lss, limit": _task("lss", "en", limit=3),
    "task: lss, targets": _spec(
        interventions={"languages": ["fr", "tr"], "op": "scale", "factors": [2]},
        tasks=[{"name": "lss", "languages": ["en"], "targets": ["tr"]}],
    ),
    "task: lss, facts that all have": _task("lss", "en", "tr", data="sparse"),
    "task: lss, any facts": _task("lss", "en", "tr", data="sparse", facts="any"),
    "task: lss, chat": _task("lss", "en", chat=True),
    "task: xcopa, limit": _task("xcopa", "it", "zh", limit=1),
    "task: xcopa, split": _task("xcopa", "it", split="val"),
    "task: xcopa, chat": _task("xcopa", "it", chat=True),
    "task: xcopa, paper": {**_task("xcopa", "tr"), "mode": "paper"},
    "task: xwinograd": _task("xwinograd", "fr"),
    "task: include": _task("include", "fr"),
    "task: perplexity": _task("perplexity", *_FLORES_LANGUAGES),
    "task: perplexity, split, paper": {**_task("perplexity", "fr", split="dev"), "mode": "paper"},
    "task: flores": _task("flores", *_FLORES_LANGUAGES, limit=1),
    "task: flores, paper": {**_task("flores", "fr"), "mode": "paper"},
    "task: flores_untargeted": _task("flores_untargeted", *_FLORES_LANGUAGES),
    "task: flores_untargeted, paper": {**_task("flores_untargeted", "fr"), "mode": "paper"},
    "task: flores, chat": _task("flores", "fr", chat=True),
    "task: generation": _task("generation", "fr"),
    "task: generation, data, limit, chat": _task("generation", "fr", data="prompts", limit=1, chat=True),
    "task: generation, sampled": _task(
        "generation", "fr", data="prompts", max_tokens=8, temperature=0.5, top_p=0.9, n=2, seed=4
    ),
    "task: generation, sampled by default": _task("generation", "fr", max_tokens=64, temperature=0, top_p=1, n=1),
    "tokens: several, with a vector": _steered(
        op="scale",
        factors=[2, 3],
        scope="generation",
        tokens=[None, {"end": 8}, {"end": 8, "decay": 0.5}],
        baselines=[{"method": "diffmean", "factors": [4]}],
    ),
    "when and part: several": {
        **_task("generation", "fr", data="prompts"),
        "interventions": {
            "languages": ["fr"],
            "op": "scale",
            "factors": [2],
            "when": [None, "drift"],
            "part": [None, "thinking"],
        },
    },
    "when: drift, with a vector and a control": {
        **_task("generation", "fr", data="prompts"),
        "interventions": {
            "languages": ["fr"],
            "op": "set",
            "factors": [2],
            "when": "drift",
            "controls": ["zero"],
            "baselines": [{"method": "diffmean", "factors": [4]}],
        },
    },
    "when: drift with settings, in an answer": {
        **_task("generation", "fr", data="prompts"),
        "interventions": {
            "languages": ["fr"],
            "op": "scale",
            "factors": [2],
            "when": {"drift": {"window": 90}},
            "part": "answer",
        },
    },
    "adapter": {**_steered(op="scale", factors=[2]), "adapter": "formal"},
    "tasks: several, one twice": _spec(tasks=[*_XCOPA, *_LSS, *_XCOPA]),
}
LM_EVAL_SPECS: dict[str, dict[str, Any]] = {
    "task: lm_eval": _task("lm_eval:golden_until", "en"),
    "task: lm_eval, limit": _task("lm_eval:golden_until", "en", limit=2),
    "task: lm_eval, one a language": _task("lm_eval:golden_likelihood_{language}", "fr"),
    "task: lm_eval, chat": _task("lm_eval:golden_until", "en", chat=True),
}
"""Planned apart: they import lm-eval, which takes seconds."""
