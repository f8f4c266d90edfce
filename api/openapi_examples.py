"""A request of each kind, as the document shows it; every one of them is answered by a server with the atlas."""

from __future__ import annotations

from typing import Any

SWEEP: dict[str, Any] = {
    "name": "first-look",
    "model": "atlas",
    "neurons": {"method": "lape", "corpus": "atlas", "languages": ["en", "fr", "tr"]},
    "interventions": {"languages": ["fr", "tr"], "op": "scale", "factors": [0.5, 2, 5]},
    "tasks": [{"name": "lss", "languages": ["en"], "limit": 100}],
}
NEURON_SET: dict[str, Any] = {"model": "atlas", "neurons": {"fr": {"0": [12, 40], "3": [7]}, "tr": {"1": [5]}}}
DEFAULT_NEURON_SET: dict[str, Any] = {"neuron_set": "ns_0123456789abcdef0123456789abcdef"}
COMPLETION: dict[str, Any] = {
    "model": "atlas",
    "prompt": "In Egypt, the currency is",
    "max_tokens": 12,
    "temperature": 0,
}
CHAT: dict[str, Any] = {
    "model": "atlas",
    "messages": [{"role": "user", "content": "What is the currency of Egypt?"}],
    "max_completion_tokens": 12,
}
