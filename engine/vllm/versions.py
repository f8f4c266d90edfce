"""The vLLM releases that the patch was tested with.

Other vLLM releases are rejected at startup, because the patch could fail to apply and generation would run unsteered.
"""

from __future__ import annotations

from ampsweep.errors import SteeringNotInstalled

SUPPORTED = ("0.25.1", "0.32.0")


def check_version(version: str) -> None:
    """Raise SteeringNotInstalled for a vLLM release that was not tested; a local version label (`+cpu`) is ignored."""
    if version.split("+")[0] not in SUPPORTED:
        raise SteeringNotInstalled(
            f"vLLM {version} is not supported; install one of: {', '.join(SUPPORTED)}", param="engine"
        )
