# On a fresh machine `make test` and `make demo` do all the set-up (Python >= 3.10 and make are enough).
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install test lint format demo benchmark
.NOTPARALLEL:

help:
	@echo "make test       lint and run all tests"
	@echo "make demo       train, predict and evaluate on the demo dataset (about 6 minutes on 2 idle CPU cores)"
	@echo "make lint       ruff check and ruff format --check"
	@echo "make format     let ruff rewrite the files"
	@echo "make benchmark  measure speed and memory"
	@echo "make install    only create $(VENV) with the package (editable) and its development tools"

install: $(INSTALLED)

# The hook files are copied into site-packages, so a change of them needs a new installation.
$(INSTALLED): pyproject.toml $(wildcard nnunet_stochastic/_hook/*)
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python >= 3.10 is needed: make PYTHON=python3.12")'
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $@

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint
	$(BIN)/python -m pytest

demo: $(INSTALLED)
	$(BIN)/nnunet_stochastic_demo

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks
