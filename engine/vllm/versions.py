"""The vLLM releases this patch was tested with. Another one may run unsteered without a word, so it is refused."""

from __future__ import annotations

from ampsweep.errors import SteeringNotInstalled

SUPPORTED = ("0.25.1", "0.32.0")


def check_version(version: str) -> None:
    """Raise SteeringNotInstalled for a vLLM release that was not tested; a local part (`+cpu`) does not matter."""
    if version.split("+")[0] not in SUPPORTED:
        raise SteeringNotInstalled(
            f"vLLM {version} is not supported; install one of: {', '.join(SUPPORTED)}", param="engine"
        )
