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
DOCS_STAMP := $(VENV)/.docs-installed
PIP := -m pip --disable-pip-version-check
LOCK_VENV := build/lock
TORCH ?= $(shell sed -n 's/^torch==//p' requirements-torch.lock)
# `make lock UPGRADE=` keeps the versions that are locked, where they still fit pyproject.toml.
UPGRADE ?= --upgrade
INDEX = $(or $(PIP_INDEX_URL),$(shell $(PYTHON) $(PIP) config get global.index-url 2>/dev/null))

.DEFAULT_GOAL := help
.PHONY: help install extras demo test lint format test-slow bench docs docs-tools wheel lock clean

help: ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(STAMP) ## Create .venv from requirements.lock.

# Every file but torch's own is checked against the hashes of the lock, and no dependency is installed that
# is not in it. torch comes last, by its exact pin, in the build that the index or folder gives that
# pip is told about (CPU or CUDA, each with other files); all that it needs, the CUDA libraries
# apart, is there by then.
$(STAMP): requirements.lock requirements-torch.lock pyproject.toml src/seqloom/_version.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("seqloom needs Python 3.11 or \
	newer; found " + sys.version.split()[0] + ". Name one: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV); this takes a few minutes, once."
	@rm -f $@
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python $(PIP) install -qq --no-deps --require-hashes -r requirements.lock
	$(BIN)/python $(PIP) install -qq -r requirements-torch.lock
	$(BIN)/python $(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@

extras: $(STAMP) ## Add the trackers, vector stores and notebook tools whose tests skip without them.
	$(BIN)/python $(PIP) install -qq --no-deps --require-hashes -r requirements-extras.lock

demo: $(STAMP) ## The whole path on MovieLens-100K, with a report at the end.
	$(BIN)/seqloom demo --out $(DEMO)

test: lint ## Style, types, import rules and the tests (not the slow ones).
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not slow"  # a thread a worker

lint: $(STAMP) ## Style, types and import rules alone.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/structure.py --check

format: $(STAMP) ## Repair what ruff can repair.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test-slow: $(STAMP) ## The tests that take minutes.
	HF_HUB_OFFLINE=1 $(BIN)/pytest -m slow

bench: $(STAMP) ## All benchmarks beside their yardsticks (BENCH=--quick: minutes), into docs/benchmarks.md.
	$(BIN)/python -m benchmarks $(BENCH)

docs: docs-tools ## Build the documentation into build/site; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-tools: $(DOCS_STAMP) ## Install what `make docs` needs.

$(DOCS_STAMP): $(STAMP) requirements-docs.lock
	$(BIN)/python $(PIP) install -qq --no-deps --require-hashes -r requirements-docs.lock
	@touch $@

wheel: $(STAMP) ## Build wheel and sdist into dist/, and use the wheel in a new environment.
	$(BIN)/python scripts/check_wheel.py

lock: ## Lock newest versions with hashes (TORCH=VERSION for another torch, UPGRADE= to keep versions).
	rm -rf $(LOCK_VENV)
	$(PYTHON) -m venv $(LOCK_VENV)
	$(LOCK_VENV)/bin/python $(PIP) install -qq uv
	@printf '%s\n' '# Made by `make lock`. Apart from requirements.lock and without a hash: CPU and CUDA builds of a' \
	  '# version are different files, and each machine is told its own place to get one from.' \
	  'torch==$(TORCH)' > requirements-torch.lock
	@$(call compile,requirements.lock,dev serve postgresql redis onnx ray,)
	@$(call compile,deploy/requirements.lock,serve postgresql redis,-c requirements.lock)
	@$(call compile,requirements-docs.lock,docs,-c requirements.lock)
	@$(call compile,requirements-extras.lock,mlflow wandb qdrant lancedb examples,-c requirements.lock)
	rm -rf $(LOCK_VENV)

# One version for all platforms and interpreters, with the hashes of all its files. Left out are torch
# and the CUDA libraries that its CUDA builds bring.
define compile
touch $(1) && cp $(1) $(LOCK_VENV)/out && \
$(if $(INDEX),UV_DEFAULT_INDEX='$(INDEX)') $(if $(PIP_CERT),SSL_CERT_FILE='$(PIP_CERT)') \
  $(LOCK_VENV)/bin/uv pip compile --quiet pyproject.toml $(addprefix --extra ,$(2)) \
  -c requirements-torch.lock $(3) --universal --python-version 3.11 --fork-strategy fewest $(UPGRADE) \
  --generate-hashes --no-annotate --no-header --no-emit-package torch -o $(LOCK_VENV)/out && \
{ echo '# Made by `make lock`: pip install --no-deps --require-hashes -r $(1)'; \
  awk '/^[a-z]/ { kept = !/^(nvidia-|cuda-|triton==)/ } kept' $(LOCK_VENV)/out; } > $(1)
endef

clean: ## Remove the environment, caches and build output; work/ stays.
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
