# On a fresh machine `make test` and `make demo` do all the set-up (Python >= 3.10 and make are enough).
# Another interpreter: make test PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Processes that share out the tests, each with up to 2 GB of memory: make test WORKERS=4. Slow tests start more, 6 GB in all.
WORKERS := 2
# All tests of a file run in one process, so that what they share is made once.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help install test test-slow lint format docs demo study benchmark viewer dist image
.NOTPARALLEL:

help:
	@echo "make test       lint and run the tests, but for the slow ones, in WORKERS=$(WORKERS) processes of up to 2 GB each"
	@echo "make test-slow  run the slow tests: interrupted processes, whole studies, fresh environments, a browser"
	@echo "make demo       train, predict and evaluate on the demo dataset (6 to 10 minutes on 2 idle CPU cores)"
	@echo "make study      run a whole study of tiny models, examples/tiny (about twice as long as the demo)"
	@echo "make lint       ruff check, ruff format --check and mypy"
	@echo "make format     let ruff rewrite the files"
	@echo "make docs       build the documentation as a site, build/site/index.html; a broken link is an error"
	@echo "make benchmark  measure speed and memory"
	@echo "make dist       build the source distribution and the wheel into dist/, and check them"
	@echo "make image      build the container image with Docker, for DEVICE=$(DEVICE), or cpu with TORCH_INDEX=..."
	@echo "make viewer     fetch the viewer of the report's page from npm again"
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
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

test: lint
	$(PYTEST) -m "not slow"

test-slow: $(INSTALLED)
	$(PYTEST) -m slow

demo: $(INSTALLED)
	$(BIN)/nnunet_stochastic_demo

STUDY := $(CURDIR)/nnunet_stochastic_study
study: $(INSTALLED)
	mkdir -p $(STUDY)/nnUNet_raw $(STUDY)/nnUNet_preprocessed $(STUDY)/nnUNet_results
	cp -R examples/tiny/. $(STUDY)
	nnUNet_raw=$(STUDY)/nnUNet_raw nnUNet_preprocessed=$(STUDY)/nnUNet_preprocessed nnUNet_results=$(STUDY)/nnUNet_results $(BIN)/nnunet_stochastic_study $(STUDY)/tiny.yaml

benchmark: $(INSTALLED)
	$(BIN)/python benchmarks

dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m hatchling build
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m tests.packaged_files dist

DEVICE := cuda
# Index of PyTorch's wheels, for DEVICE=cpu: see containers/Dockerfile.
TORCH_INDEX :=
image:
	docker build --file containers/Dockerfile --build-arg DEVICE=$(DEVICE) --build-arg TORCH_INDEX=$(TORCH_INDEX) --tag nnunet_stochastic:$(DEVICE) .

VENDOR := nnunet_stochastic/report/page/vendor
# Fetches the viewer and the table of the report's page again, in the versions of $(VENDOR)/package.json; needs npm.
viewer:
	rm -rf build/viewer
	mkdir -p build/viewer
	cp $(VENDOR)/package.json build/viewer
	npm install --prefix build/viewer --ignore-scripts --no-audit --no-fund
	cp build/viewer/node_modules/@niivue/niivue/dist/niivue.umd.js $(VENDOR)
	cp build/viewer/node_modules/tabulator-tables/dist/js/tabulator.min.js $(VENDOR)
	cp build/viewer/node_modules/tabulator-tables/dist/css/tabulator.min.css $(VENDOR)
	cp build/viewer/node_modules/tabulator-tables/LICENSE $(VENDOR)/tabulator.LICENSE.txt
	cd build/viewer/node_modules && find . -mindepth 2 -maxdepth 3 -iname 'licen[cs]e*' -not -path './tabulator-tables/*' | LC_ALL=C sort | while read -r file; do printf '\n== %s ==\n\n' "$$(dirname "$$file" | cut -c3-)"; tr -d '\r' < "$$file"; done > $(CURDIR)/$(VENDOR)/niivue_dependencies.LICENSE.txt
