# `make demo` and `make test` need Python 3.11 or newer and a package index, and nothing else.
# pip's own configuration is respected: PIP_INDEX_URL, PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL ...

PYTHON ?= $(or $(shell for name in python3 python3.13 python3.12 python3.11; do \
    $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; \
    done), python3)
WORKERS ?= 2
DEMO ?= work/demo

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := -m pip --disable-pip-version-check
LOCK_VENV := build/lock
TORCH ?= $(shell sed -n 's/^torch==//p' requirements.lock)

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format test-slow bench lock clean

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) ## Create .venv from requirements.lock.

# torch goes first and alone, by its exact pin: a CPU build that pip is told about then satisfies the
# rest, and nothing pulls in another build.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("seqloom needs Python 3.11 or \
	newer; found " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV); this takes a few minutes, once."
	@rm -f $@
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(PIP) install -qq "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python $(PIP) install -qq -r requirements.lock
	$(BIN)/python $(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## The whole path on MovieLens-100K, with a report at the end.
	$(BIN)/seqloom demo --out $(DEMO)

test: lint ## Style, types, import rules and the tests (not the slow ones).
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n $(WORKERS) -m "not slow"

lint: $(STAMP) ## Style, types and import rules alone.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## Repair what ruff can repair.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(STAMP) ## The tests that take minutes.
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m slow

bench: $(STAMP) ## All benchmarks beside their yardsticks (BENCH=--quick: minutes), into docs/benchmarks.md.
	$(BIN)/python -m benchmarks $(BENCH)

lock: ## Make requirements.lock again in a clean environment (TORCH=VERSION for another torch).
	rm -rf $(LOCK_VENV)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python $(PIP) install -qq torch==$(TORCH)
	$(LOCK_VENV)/bin/python $(PIP) install -qq '.[dev,serve,postgresql,redis,onnx,ray]'
	{ echo '# Made by `make lock`. torch is first because it is installed first, alone.'; \
	  echo 'torch==$(TORCH)'; \
	  $(LOCK_VENV)/bin/python $(PIP) freeze --exclude seqloom --exclude torch \
	    | sed 's/+[A-Za-z0-9.]*$$//' | grep -Ev '^(nvidia-|cuda-|triton==)'; \
	} > $(LOCK_VENV)/requirements.lock
	mv $(LOCK_VENV)/requirements.lock requirements.lock
	rm -rf $(LOCK_VENV)

clean: ## Remove the environment, caches and build output; work/ stays.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
