"""Our figures beside other programs' on the same models: greedy tokens, logits, ids.

Each row below is a function that yields what was compared, with its figure and whether it holds; a new peer is a new
function. Peers that need an environment of their own have it in benchmarks/.environments/NAME and are left out, with
the reason, where it is not there. Writes benchmarks/results/parity.json and the table in docs/parity.md.

    python benchmarks/parity.py [--only llama.cpp transformers] [--no-docs]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "parity.json"
PAGE = ROOT / "docs" / "parity.md"
ENVIRONMENTS = ROOT / "benchmarks" / ".environments"
STORIES = ROOT / "examples" / "data" / "stories260K" / "stories260K.bin"
BEGIN, END = "<!-- written by make parity -->", "<!-- end of what make parity writes -->"
TOKENS = 64
ENGLISH = "the cat sat on a mat and said hello to every little dog in town 1984 don't e-mail @ 3.14 %"
PROMPTS = (
    "Once upon a time",
    "Lily and Tom went to the park.",
    "The little dog said, \"I am",
    "春风",
    "床前明月光，疑是地上霜。",
    "One day 小明 saw a big red ball",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    theirs: str
    figure: str
    holds: bool | None
    """Whether what must be equal is; None where a figure alone is asked for."""
    details: dict[str, Any]


@dataclass(frozen=True)
class Models:
    """The models that are compared: by name, each as `load` takes it."""

    each: dict[str, Path]
    work: Path

    def exported(self, name: str, to: str, **options: str) -> Path:
        """The folder of an export, made once."""
        from guiju.providers import export_model

        kind = "-".join([to, *options.values()])
        out = self.work / f"{list(self.each).index(name)}-{kind}"
        if not out.exists():
            export_model(self.each[name], to=to, out=out, **options)
        return out


def llama_cpp(models: Models) -> Iterator[Row]:
    """llama.cpp on our GGUF files: in f32 every id and every greedy token must be the same."""
    from guiju.errors import ModelError

    python = ENVIRONMENTS / "llama.cpp" / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(f"{python.parent.parent} is not there")
    for name in models.each:
        ours = _ours(models.each[name])
        for kind in ("f32", "f16", "q8_0"):
            try:
                folder = models.exported(name, "gguf", type=kind)
            except ModelError as problem:
                short = str(problem).partition(":")[0]
                yield Row(f"{name}, {kind}", "llama.cpp", f"refused: {short}", None, {"why": str(problem)})
                continue
            theirs = _peer(python, "parity_llama_cpp.py", {"model": str(folder / f"model-{kind}.gguf")})
            yield _row(f"{name}, {kind}", f"llama.cpp ({theirs['version']})", ours, theirs, must=kind == "f32")


def transformers(models: Models) -> Iterator[Row]:
    """transformers on our Hugging Face folder."""
    import torch
    import transformers as library

    for name in models.each:
        ours = _ours(models.each[name])
        folder = models.exported(name, "huggingface")
        model = library.AutoModelForCausalLM.from_pretrained(folder).eval()
        tokenizer = library.AutoTokenizer.from_pretrained(folder)
        theirs: dict[str, Any] = {"ids": [], "tokens": [], "logits": []}
        for prompt in PROMPTS:
            ids = torch.tensor([tokenizer.encode(prompt)])
            with torch.no_grad():
                theirs["logits"].append(model(ids).logits[0, -1].tolist())
                out = model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=TOKENS,
                    eos_token_id=None,
                    pad_token_id=0,
                )
            theirs["ids"].append(ids[0].tolist())
            theirs["tokens"].append(out[0, ids.size(1) :].tolist())
        yield _row(name, f"transformers {library.__version__}", ours, theirs, must=True)


def onnxruntime(models: Models) -> Iterator[Row]:
    """onnxruntime on our graph, a whole pass for each token."""
    import numpy as np
    import onnxruntime as library

    for name in models.each:
        ours = _ours(models.each[name])
        session = library.InferenceSession(models.exported(name, "onnx") / "model.onnx")
        theirs: dict[str, Any] = {"ids": ours["ids"], "tokens": [], "logits": []}
        for prompt in ours["ids"]:
            row, new, first = list(prompt), [], None
            while len(new) < TOKENS:
                feed = {"input_ids": np.array([row]), "attention_mask": np.ones((1, len(row)), dtype=np.int64)}
                names = {given.name for given in session.get_inputs()}
                [logits] = session.run(["logits"], {key: value for key, value in feed.items() if key in names})
                first = logits[0, -1].tolist() if first is None else first
                new.append(int(logits[0, -1].argmax()))
                row.append(new[-1])
            theirs["tokens"].append(new)
            theirs["logits"].append(first)
        yield _row(name, f"onnxruntime {library.__version__}", ours, theirs, must=True)


def tensorflow(models: Models) -> Iterator[Row]:
    """TensorFlow on our SavedModel, in a process without torch."""
    code = (
        "import json, sys\n"
        "from guiju.providers import load\n"
        "asked = json.load(sys.stdin)\n"
        "model = load('tf:' + asked['model'])\n"
        "tokens = [list(model.generate(p, greedy=True, max_new_tokens=asked['tokens'], ignore_eos=True)[0].ids)"
        " for p in asked['prompts']]\n"
        "import tensorflow\n"
        "print(json.dumps({'tokens': tokens, 'version': tensorflow.__version__, 'torch': 'torch' in sys.modules}))\n"
    )
    for name in models.each:
        ours = _ours(models.each[name])
        folder = models.exported(name, "tensorflow")
        theirs = _peer(Path(sys.executable), ["-c", code], {"model": str(folder)})
        row = _row(name, f"TensorFlow {theirs['version']}", ours, {**theirs, "ids": ours["ids"]}, must=True)
        yield Row(row.what, row.theirs, row.figure, row.holds and not theirs["torch"], row.details)


def sentencepiece(models: Models) -> Iterator[Row]:
    """SentencePiece's ids of made-up lines, and ours."""
    import sentencepiece as library

    from guiju.tokens import Tokenizer

    path = Path(os.environ.get("GUIJU_DATA", "")) / "tokenizer-sentencepiece" / "test_model.model"
    if not path.is_file():
        raise FileNotFoundError("GUIJU_DATA names no folder with tokenizer-sentencepiece/test_model.model")
    theirs, ours = library.SentencePieceProcessor(model_file=str(path)), Tokenizer.load(path)
    lines = list(_lines(10_000))
    different = [line for line in lines if ours.encode(line) != theirs.encode(line)]
    figure = f"{len(lines) - len(different):,} of {len(lines):,} lines have equal ids"
    details = {"lines": len(lines), "different": different[:5]}
    yield Row("its test model's vocabulary", f"sentencepiece {library.__version__}", figure, not different, details)


PEERS: dict[str, Callable[[Models], Iterator[Row]]] = {
    "llama.cpp": llama_cpp,
    "transformers": transformers,
    "onnxruntime": onnxruntime,
    "tensorflow": tensorflow,
    "sentencepiece": sentencepiece,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--no-docs", action="store_true", help="leave docs/parity.md as it is")
    arguments = parser.parse_args()
    from guiju.evidence import environment

    rows: list[Row] = []
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = make_models(Path(folder))
        for peer in arguments.only:
            try:
                for row in PEERS[peer](models):
                    rows.append(row)
                    print(f"{_mark(row.holds):<5}{row.theirs:<24}{row.what:<44}{row.figure}", flush=True)
            except (ImportError, FileNotFoundError) as problem:
                missing[peer] = str(problem)
                print(f"     {peer} was left out: {problem}", flush=True)
    facts = {"environment": environment(), "tokens": TOKENS, "prompts": PROMPTS, "left_out": missing}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False)
    arguments.out.write_text(text + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")
    if not arguments.no_docs:
        write_page(rows, missing)
    sys.exit(any(row.holds is False for row in rows))


def make_models(work: Path) -> Models:
    """The published checkpoint, and a small model of each shape that is trained now, on English stories and Chinese
    poems with a byte-level vocabulary."""
    from guiju.pipeline import run_recipe

    models = {"stories260K": STORIES}
    for shape, more in (("gpt2", {}), ("llama", {"kv_heads": 2, "hidden": 352})):
        recipe = work / f"{shape}.yaml"
        recipe.write_text(json.dumps(_recipe({"shape": shape, **more})), encoding="utf-8")
        began = time.monotonic()
        run_recipe(recipe, reporter=_Silent(), out=work / shape)
        print(f"     trained a small model of {shape}'s shape in {time.monotonic() - began:.0f} s", flush=True)
        models[f"a small model of {shape}'s shape"] = work / shape / "model"
    return Models(models, work)


class _Silent:
    def stage(self, *_: object) -> None: ...
    def progress(self, *_: object) -> None: ...
    def finished(self, *_: object) -> None: ...
    def note(self, *_: object) -> None: ...


def _recipe(shape: dict[str, Any]) -> dict[str, Any]:
    data = ROOT / "examples" / "data"
    stories = {
        "name": "stories",
        "path": str(data / "tinystories" / "tinystories_sample.train.txt.gz"),
        "split_on": "<|endoftext|>",
        "max_documents": 1500,
        "language": "en",
        "licence": "CDLA-Sharing-1.0",
        "origin": "TinyStories",
        "date": "2023",
    }
    poems = {
        "name": "poems",
        "path": str(data / "chinese-poetry" / "poet.tang.0.json.gz"),
        "text_fields": "paragraphs",
        "max_documents": 1000,
        "language": "zh",
        "licence": "MIT",
        "origin": "chinese-poetry",
        "date": "2019",
    }
    return {
        "corpus": {"sources": [stories, poems]},
        "tokenizer": {"vocab_size": 1024},
        "model": {**shape, "width": 128, "layers": 3, "heads": 4, "context": 128},
        "training": {"steps": 250, "batch": 8, "learning_rate": 3e-3, "warmup_steps": 30, "dtype": "float32"},
        "generation": {"prompts": [{"text": "Once", "language": "en"}], "sampling": {"max_new_tokens": 4}},
    }


def _ours(reference: Path) -> dict[str, Any]:
    """Ids of each prompt, the logits after them, and the greedy tokens, by the reference runner in float32."""
    import torch

    from guiju.providers import load

    model = load(reference)
    found: dict[str, Any] = {"ids": [], "tokens": [], "logits": []}
    for prompt in PROMPTS:
        ids = model.tokenizer.prefix_ids + model.tokenizer.encode(prompt)
        with torch.no_grad():
            found["logits"].append(model.decoder(torch.tensor([ids]))[0, -1].tolist())
        [sequence] = model.generate(prompt, greedy=True, max_new_tokens=TOKENS, ignore_eos=True, runner="torch")
        found["ids"].append(ids)
        found["tokens"].append(list(sequence.ids))
    return found


def _row(what: str, peer: str, ours: dict[str, Any], theirs: dict[str, Any], must: bool) -> Row:
    """Both sides' ids, tokens and logits, compared."""
    same_ids = ours["ids"] == theirs["ids"]
    pairs = list(zip(ours["tokens"], theirs["tokens"], strict=True))
    same = [sum(1 for _ in _common(mine, other)) for mine, other in pairs]
    total = sum(len(mine) for mine, _ in pairs)
    equal = sum(mine == other for mine, other in pairs)
    figure = f"{equal} of {len(pairs)} continuations of {TOKENS} tokens equal"
    if equal < len(pairs):
        figure += f" ({sum(same) / total:.0%} of tokens before the first difference)"
    details: dict[str, Any] = {"equal": equal, "continuations": len(pairs), "same_ids": same_ids, "common": same}
    if "logits" in theirs:
        gap = max(
            abs(mine - other)
            for one, two in zip(ours["logits"], theirs["logits"], strict=True)
            for mine, other in zip(one, two, strict=True)
        )
        figure += f", logits within {gap:.1g}"
        details["largest_logit_difference"] = gap
    if not same_ids:
        figure += "; ids of the prompts differ"
    return Row(what, peer, figure, (equal == len(pairs) and same_ids) if must else None, details)


def _common(one: list[int], two: list[int]) -> Iterator[int]:
    for mine, other in zip(one, two, strict=True):
        if mine != other:
            return
        yield mine


def _peer(python: Path, script: str | list[str], job: dict[str, Any]) -> dict[str, Any]:
    """What a program in its own environment answers."""
    arguments = [str(ROOT / "benchmarks" / script)] if isinstance(script, str) else script
    asked = json.dumps({**job, "prompts": PROMPTS, "tokens": TOKENS})
    done = subprocess.run(
        [str(python), *arguments], input=asked, capture_output=True, text=True, check=False, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"{python} ended with {done.returncode}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _lines(count: int) -> Iterator[str]:
    """Lines of English, Chinese and both, always the same ones."""
    chance = random.Random(0)
    english = ENGLISH.split()
    chinese = "床前明月光疑是地上霜举头望明月低头思故乡春风又绿江南岸，。！？、"
    for _ in range(count):
        words = [
            chance.choice(english)
            if chance.random() < 0.6
            else "".join(chance.choices(chinese, k=chance.randint(1, 6)))
            for _ in range(chance.randint(0, 20))
        ]
        yield chance.choice([" ", "  ", ""]).join(words)


def _mark(holds: bool | None) -> str:
    return {True: "yes", False: "NO", None: "-"}[holds]


def write_page(rows: list[Row], missing: dict[str, str]) -> None:
    """The table between two marks of docs/parity.md, which stay."""
    lines = [
        BEGIN,
        "",
        "## Recorded by `make parity`",
        "",
        f"Greedy continuations of {len(PROMPTS)} English and Chinese prompts, float32 on our side, `end of text` not "
        f"heeded; logits are those after the prompt. What must be equal says yes.",
        "",
        "| what | beside | figure | equal |",
        "|---|---|---|---|",
        *(f"| {row.what} | {row.theirs} | {row.figure} | {_mark(row.holds)} |" for row in rows),
    ]
    lines += [f"| {peer} | | left out: {why} | |" for peer, why in missing.items()]
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    page = before.rstrip("\n") + "\n\n" + "\n".join([*lines, "", END]) + (after or "\n")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
