"""Stages in order, each keyed by the digests of what it reads: what is done is not done again.

A stage's key is the digest of its own settings, its version, the outputs of the stages that it needs, and the files
outside the run that it reads. A stage whose last finished record carries the same key, and whose outputs still have
the digests written there, is up to date.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from guiju.errors import ConfigError, EvidenceError
from guiju.evidence import Entry, Kind, Run, canonical_json, environment, read_entries, read_manifest
from guiju.pipeline.judging import digest_of, said_by_people
from guiju.pipeline.reading import AnyRecipe, write_recipe
from guiju.storage import folder_digests, remove_stale, require_free_space, sha256_file, write_text

R = TypeVar("R", bound=AnyRecipe)
"""What steers the stages: the recipe of the verb whose stages they are."""


class Reporter(Protocol):
    """Who tells the person at the screen how far the run is."""

    def stage(self, name: str, status: str, why: str) -> None: ...

    def progress(self, done: int, total: int, label: str) -> None: ...

    def finished(self, name: str, seconds: float, line: str) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class StageContext(Generic[R]):
    """What a stage may use while it works."""

    run: Run
    recipe: R
    name: str
    reporter: Reporter
    resuming: bool
    """The same stage with the same key was begun before, and cut off."""

    def path(self, relative: str) -> Path:
        return self.run.path / relative

    def record(
        self, kind: Kind, body: Mapping[str, Any], reason: str, outputs: Mapping[str, str | None] | None = None
    ) -> int:
        """Append what happened to the run's ledger, and return the entry's index."""
        return self.run.append(kind, {"stage": self.name, **body}, reason=reason, outputs=dict(outputs or {}))


@dataclass(frozen=True)
class StageResult:
    summary: dict[str, Any]
    line: str
    """One line for the screen."""


def _no_files(recipe: AnyRecipe) -> dict[str, Path]:
    return {}


def _little_space(recipe: AnyRecipe) -> int:
    return 1 << 20


@dataclass(frozen=True)
class Stage(Generic[R]):
    """A step of the run: what steers it, what it needs, what it leaves, and the work itself."""

    name: str
    needs: tuple[str, ...]
    outputs: tuple[str, ...]
    """Run-relative files and folders that belong to this stage alone."""
    settings: Callable[[R], Mapping[str, Any]]
    work: Callable[[StageContext[R]], StageResult]
    files: Callable[[R], dict[str, Path]] = _no_files
    """Files outside the run that the stage reads."""
    heeds_people: bool = False
    """What people put on record counts among what it reads."""
    space_bytes: Callable[[R], int] = _little_space
    resumable: bool = False
    """Its outputs grow while it works; a new key starts from none."""
    version: int = 1
    """Raised when the stage's code gives other results for the same inputs."""


@dataclass(frozen=True)
class StageState(Generic[R]):
    stage: Stage[R]
    key: str | None
    """None while a stage that it needs is still to be done."""
    status: str
    """up to date, to do, to resume"""
    why: str


@dataclass(frozen=True)
class Glance:
    """A run folder to look at, without lock, key or change."""

    path: Path

    def entries(self) -> Iterator[Entry]:
        return read_entries(self.path)

    def manifest(self) -> dict[str, str]:
        return read_manifest(self.path)


@dataclass
class _History:
    """What the ledger says of each stage's last beginning and last end."""

    started: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run | Glance) -> _History:
        history = cls()
        for entry in run.entries():
            if entry.kind == Kind.STAGE_STARTED:
                history.started[entry.body["stage"]] = entry.body
                history.finished.pop(entry.body["stage"], None)
            elif entry.kind == Kind.STAGE_FINISHED:
                history.finished[entry.body["stage"]] = entry.body
                history.outputs[entry.body["stage"]] = {
                    path: digest for path, digest in entry.outputs.items() if digest is not None
                }
        return history


class Orchestrator(Generic[R]):
    """Runs a recipe's stages over one run folder."""

    def __init__(self, run: Run | Glance, recipe: R, stages: tuple[Stage[R], ...], reporter: Reporter) -> None:
        self.run = run
        self.recipe = recipe
        self.stages = stages
        self.reporter = reporter
        self.history = _History.of(run)
        self._file_digests: dict[Path, str] = {}

    def states(self) -> Iterator[StageState[R]]:
        """Each stage's state, in order, without doing anything."""
        undone: set[str] = set()
        for stage in self.stages:
            state = self._state(stage, undone)
            if state.status != "up to date":
                undone.add(stage.name)
            yield state

    def run_all(self, only: str | None = None, before: Callable[[str], None] | None = None) -> list[str]:
        """Do what is to be done; returns the names of the stages that were done.

        Args:
            only: this stage alone, which needs those before it to be up to date.
            before: called with each stage's name before it is looked at.
        Raises:
            ConfigError: `only` names no stage, or one whose needs are not up to date.
        """
        if only is not None:
            self._check_only(only)
        done: list[str] = []
        for stage in self.stages:
            if only is not None and stage.name != only:
                continue
            if before is not None:
                before(stage.name)
            state = self._state(stage, set())
            self.reporter.stage(stage.name, state.status, state.why)
            if state.status != "up to date":
                self._do(stage, state)
                done.append(stage.name)
        if only is not None:
            for state in self.states():
                if state.status != "up to date":
                    self.reporter.note(f"{state.stage.name} is no longer up to date: {state.why}")
        return done

    def _check_only(self, only: str) -> None:
        stages = {stage.name: stage for stage in self.stages}
        if only not in stages:
            raise ConfigError(f"--only {only}: there is no such stage; the stages are {', '.join(stages)}")
        states = {state.stage.name: state for state in self.states()}
        for need in stages[only].needs:
            if states[need].status != "up to date":
                raise ConfigError(
                    f"--only {only}: it needs {need}, which is not up to date ({states[need].why}); "
                    f"run the recipe without --only, or with --only {need} first"
                )

    def _state(self, stage: Stage[R], undone: set[str]) -> StageState[R]:
        waiting = [need for need in stage.needs if need in undone]
        if waiting:
            return StageState(stage, None, "to do", f"{waiting[0]} is to be done first")
        inputs = self._inputs(stage)
        key = self._key(stage, inputs)
        finished = self.history.finished.get(stage.name)
        if finished is None:
            started = self.history.started.get(stage.name)
            if started is None:
                return StageState(stage, key, "to do", "not done yet")
            if started["key"] == key and stage.resumable:
                return StageState(stage, key, "to resume", "it was cut off")
            return StageState(stage, key, "to do", "it was cut off")
        if finished["key"] != key:
            return StageState(stage, key, "to do", self._what_changed(stage, inputs))
        changed = self._changed_output(stage)
        if changed:
            return StageState(stage, key, "to do", changed)
        return StageState(stage, key, "up to date", "")

    def _inputs(self, stage: Stage[R]) -> dict[str, str]:
        """Digests of everything that the stage reads, by name."""
        inputs = {}
        for need in stage.needs:
            outputs = self.history.outputs.get(need, {})
            inputs[need] = hashlib.sha256(canonical_json(outputs)).hexdigest()
        if stage.heeds_people and (said := [entry for entry in self.run.entries() if said_by_people(entry)]):
            inputs["people"] = digest_of(said)
        for name, path in stage.files(self.recipe).items():
            if path not in self._file_digests:
                self._file_digests[path] = sha256_file(path)
            inputs[name] = self._file_digests[path]
        return inputs

    def _key(self, stage: Stage[R], inputs: Mapping[str, str]) -> str:
        return hashlib.sha256(
            canonical_json(
                {
                    "stage": stage.name,
                    "version": stage.version,
                    "settings": dict(stage.settings(self.recipe)),
                    "inputs": dict(inputs),
                }
            )
        ).hexdigest()

    def _what_changed(self, stage: Stage[R], inputs: Mapping[str, str]) -> str:
        before = self.history.started[stage.name]
        old, new = _flat(before.get("settings", {})), _flat(stage.settings(self.recipe))
        changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if changed:
            return "changed: " + ", ".join(changed[:3]) + (" and more" if len(changed) > 3 else "")
        old_inputs = before.get("inputs", {})
        moved = sorted(name for name in inputs.keys() | old_inputs.keys() if inputs.get(name) != old_inputs.get(name))
        if moved:
            return "changed: " + ", ".join(moved[:3]) + (" and more" if len(moved) > 3 else "")
        return "guiju does this stage differently now"

    def _changed_output(self, stage: Stage[R]) -> str:
        manifest = self.run.manifest()
        for path in sorted({*self.history.outputs[stage.name], *(p for p in manifest if _belongs(p, stage.outputs))}):
            place = self.run.path / path
            if not place.is_file():
                return f"{path} is missing"
            if sha256_file(place) != manifest.get(path):
                return f"{path} was changed from outside"
        return ""

    def _do(self, stage: Stage[R], state: StageState[R]) -> None:
        run = self.run
        assert isinstance(run, Run), "a glance does nothing"
        require_free_space(run.path, stage.space_bytes(self.recipe), f"the stage {stage.name}")
        assert state.key is not None
        resuming = state.status == "to resume"
        settings = dict(stage.settings(self.recipe))
        inputs = self._inputs(stage)
        removed: dict[str, str | None] = {}
        if stage.resumable and not resuming:
            removed = self._remove_outputs(stage)
        body: dict[str, Any] = {"stage": stage.name, "key": state.key, "settings": settings, "inputs": inputs}
        body["environment"] = environment()
        run.append(Kind.STAGE_STARTED, body, reason=state.why or "asked for", inputs=inputs, outputs=removed)
        self.history.started[stage.name] = body
        self.history.finished.pop(stage.name, None)
        remove_stale(run.path)
        began = time.monotonic()
        result = stage.work(StageContext(run, self.recipe, stage.name, self.reporter, resuming))
        seconds = time.monotonic() - began
        outputs = self._outputs(stage)
        # Out of the manifest, not of the last finished record: a kill may have come between a removal and its record.
        gone = {path: None for path in run.manifest() if _belongs(path, stage.outputs) and path not in outputs}
        body = {"stage": stage.name, "key": state.key, "seconds": round(seconds, 3), "summary": result.summary}
        run.append(
            Kind.STAGE_FINISHED, body, reason=f"{stage.name} is done", inputs=inputs, outputs={**outputs, **gone}
        )
        self.history.finished[stage.name] = body
        self.history.outputs[stage.name] = outputs
        self.reporter.finished(stage.name, seconds, result.line)

    def _remove_outputs(self, stage: Stage[R]) -> dict[str, str | None]:
        """Take away what an earlier key left, so that nothing of it can be resumed from."""
        manifest = self.run.manifest()
        removed: dict[str, str | None] = {}
        for output in stage.outputs:
            for path in manifest:
                if _belongs(path, (output,)):
                    removed[path] = None
            place = self.run.path / output
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        return removed

    def _outputs(self, stage: Stage[R]) -> dict[str, str]:
        found: dict[str, str] = {}
        for output in stage.outputs:
            place = self.run.path / output
            if place.is_dir():
                found.update({f"{output}/{path}": digest for path, digest in folder_digests(place).items()})
            elif place.exists():
                found[output] = sha256_file(place)
        assert found, f"the stage {stage.name} left nothing"
        return found


def open_run(folder: Path, recipe: AnyRecipe) -> Run:
    """The run folder of a recipe, made where there is none; recipe.yaml in it holds every default written out.

    Raises:
        EvidenceError: the folder holds something else than a run, or a run of another version.
    """
    if (folder / "ledger").exists():
        run = Run.open(folder)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EvidenceError(
            f"{folder} is no run folder: it is a file, or holds other things and no ledger; "
            "choose another with --out, or move it away"
        )
    else:
        require_free_space(folder, 1 << 20, "a new run")
        run = Run.create(folder, name=recipe.name)
    try:
        _write_resolved_recipe(run, recipe)
    except BaseException:
        run.close()
        raise
    return run


def _write_resolved_recipe(run: Run, recipe: AnyRecipe) -> None:
    path = run.path / "recipe.yaml"
    text = write_recipe(recipe, run.path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if run.manifest().get("recipe.yaml") == digest and path.is_file() and sha256_file(path) == digest:
        return
    write_text(path, text)
    run.append(
        Kind.STAGE_FINISHED,
        {"stage": "recipe", "key": digest, "seconds": 0, "summary": {"name": recipe.name}},
        reason="the recipe with every default written out",
        outputs={"recipe.yaml": digest},
    )


def _belongs(path: str, outputs: tuple[str, ...]) -> bool:
    return any(path == output or path.startswith(output + "/") for output in outputs)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
