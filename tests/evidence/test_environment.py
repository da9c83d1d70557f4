from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from ledger_worlds import ROOT

import guiju.evidence
from guiju.evidence import canonical_json, environment


def test_the_environment_is_plain_data_about_this_machine():
    facts = environment()
    canonical_json(facts)
    assert facts["python"].endswith(platform.python_version())
    assert facts["packages"]["torch"] == metadata.version("torch")
    assert facts["cpus"] >= facts["cpus_usable"] >= 1
    if Path("/proc/cpuinfo").exists():
        assert facts["cpu"]
        assert facts["cpu_flags"] == sorted(facts["cpu_flags"])


def test_the_commit_is_that_of_this_checkout_and_says_when_files_were_changed():
    guiju.evidence.environment.__globals__["_commit"].cache_clear()  # somebody may have committed meanwhile
    commit = environment()["guiju_commit"]
    if (ROOT / ".git").exists():
        head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert commit.rstrip("+") == head.stdout.strip()
    else:
        assert commit is None


def test_the_room_loads_without_the_packages_that_it_names():
    code = "import sys, guiju.evidence as e; e.environment(); print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_front_door_is_sorted():
    names = guiju.evidence.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert all(hasattr(guiju.evidence, name) for name in names)
