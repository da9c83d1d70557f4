"""What a stage ran on: versions, machine, and the state of guiju's own code."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "cryptography", "ftfy", "numpy", "phonenumbers", "py3langid", "python-stdnum", "rensa", "rfc8785", "safetensors",
    "tokenizers", "torch", "transformers",
)  # fmt: skip
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM")


def environment() -> dict[str, Any]:
    """Plain data that says where a result came from. Loads none of the packages that it names."""
    return {
        "guiju": _version("guiju"),
        "guiju_commit": _commit(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": _processor()[0],
        "cpu_flags": list(_processor()[1]),
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


@functools.cache
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _processor() -> tuple[str, tuple[str, ...]]:
    """Model name and flags of the first processor; as much as the system tells."""
    facts: dict[str, str] = {}
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip().lower(), value.strip())
    except OSError:
        pass
    name = facts.get("model name") or platform.processor() or platform.machine()
    return name, tuple(sorted((facts.get("flags") or facts.get("features") or "").split()))


@functools.cache
def _commit() -> str | None:
    """The commit of the checkout that this code runs from, with a plus where files were changed; none elsewhere."""
    here = Path(__file__).resolve()
    root = here.parents[3]
    if not (root / ".git").exists() or here.parents[2].name != "src":
        return None  # installed as a package: whatever repository lies around it is not guiju's
    command = ("git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
