# make help lists what can be done. Everything happens in .venv, built from constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
export PYTHONWARNINGS ?=

.DEFAULT_GOAL := help
.PHONY: help quickstart test check bench bench-ledger bench-corpus bench-train bench-generate bench-eval bench-endpoint foreign-server parity soak install dev clean constraints reference

help: ## what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | awk -F '\t' '{printf "  make %-14s %s\n", $$1, $$2}'

quickstart: $(VENV)/core ## build .venv, then a small bilingual model and its verified report
	@$(BIN)/guiju run recipes/quickstart.yaml

test: $(VENV)/dev ## the whole test suite
	@$(BIN)/python -m pytest -n 2

check: $(VENV)/dev ## format, lint, types, and the order of the rooms
	@$(BIN)/ruff format --check -q . && $(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache | tail -n 4

bench: $(VENV)/dev ## machine, ledger and corpus, each stage apart; results in benchmarks/results/
	@$(BIN)/python benchmarks/machine.py
	@$(BIN)/python benchmarks/ledger.py
	@$(BIN)/python benchmarks/corpus.py

bench-train: $(VENV)/dev ## our training loop beside the Hugging Face Trainer, in one run
	@$(BIN)/python benchmarks/train.py

bench-generate: $(VENV)/dev ## our runners beside transformers, CTranslate2, llama.cpp and OpenVINO GenAI, in one run
	@$(BIN)/python benchmarks/generate.py

bench-eval: $(VENV)/dev ## scoring beside lm-eval on the same model and items, in one run
	@$(BIN)/python benchmarks/scoring.py

bench-endpoint: $(VENV)/dev ## how busy an endpoint is kept
	@$(BIN)/python benchmarks/endpoint.py

foreign-server: $(VENV)/dev ## our client against llama.cpp's server
	@$(BIN)/python benchmarks/foreign_server.py

parity: $(VENV)/dev ## the same tokens as llama.cpp, onnxruntime, TensorFlow and others, on one set of weights
	@$(BIN)/python benchmarks/parity.py

soak: $(VENV)/dev ## the long versions: 200 kills in training, 1,000 tamperings a class
	@$(BIN)/python -m pytest -m soak

install: $(VENV)/core ## .venv with guiju in it

dev: $(VENV)/dev ## .venv with all that tests and checks need

clean: ## remove runs, caches and .venv
	@rm -rf runs build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache $(VENV)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

reference: $(VENV)/dev ## write docs/reference.md anew from the code
	@$(BIN)/python docs/make_reference.py

constraints: $(VENV)/dev ## write constraints.txt anew from .venv
	@(head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable | sed 's/+cpu//') > constraints.new && mv constraints.new constraints.txt

$(VENV)/core: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "guiju needs Python 3.11 or newer; none was found. Give one: make PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "guiju needs Python 3.11 or newer; $(PYTHON) is older. Give one: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "building $(VENV) from constraints.txt (PyTorch is the largest part; one to several minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --upgrade pip
	@$(PIP) install -qq -c constraints.txt -e .
	@touch $@

$(VENV)/dev: $(VENV)/core
	@echo "adding what tests and checks need"
	@$(PIP) install -qq -c constraints.txt -e '.[cpu,eval,gguf,grammar,harness,onnx,openai,parquet,tensorflow]' --group dev
	@touch $@
