"""What tests of several providers share: one set of small weights, and a real server over it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

STORIES = Path(__file__).parents[2] / "examples" / "data" / "stories260K" / "stories260K.bin"


def _server_module() -> ModuleType:
    path = Path(__file__).parents[1] / "servers" / "openai_server.py"
    spec = importlib.util.spec_from_file_location("openai_server", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["openai_server"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def servers() -> ModuleType:
    """tests/servers/openai_server.py."""
    if importlib.util.find_spec("openai") is None:
        pytest.skip("needs pip install 'guiju[openai]'")
    return _server_module()


@pytest.fixture(scope="session")
def stories_model():
    from guiju.providers import load

    return load(STORIES)


@pytest.fixture(scope="session")
def stories_saved(tensorflow, tmp_path_factory) -> Path:
    """The same weights as a SavedModel."""
    from guiju.providers import export_model

    out = tmp_path_factory.mktemp("tensorflow") / "stories"
    export_model(STORIES, to="tensorflow", out=out)
    return out


@pytest.fixture(scope="session")
def stories_in_tensorflow(stories_saved):
    """Its process: starting one takes seconds."""
    from guiju.providers import load

    return load(f"tf:{stories_saved}")


@pytest.fixture
def serve(servers, stories_model, monkeypatch):
    """Start a server over a model and point the environment at it."""
    running = []

    def start(model=stories_model, **options):
        server = servers.OpenAIServer(model, **options).__enter__()
        running.append(server)
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-key")
        return server

    yield start
    for server in running:
        server.__exit__()


@pytest.fixture
def server(serve):
    return serve()
