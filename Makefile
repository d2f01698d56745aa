# Every target sets up what it needs. `make demo` is the place to start.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STORE ?= runs

.PHONY: setup demo test lint bench ui clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ablate needs Python >= 3.11, found $(PYTHON); try: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup        ## the main job: train and compare, at the scale of this machine
	$(BIN)/ablate sweep search_spaces/vivat_losses.yaml --store $(STORE)

test: setup        ## all tests; pdflatex, Chromium and PostgreSQL are used where they are installed
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup       ## speed as ratios against named peers; writes benchmarks/results/
	$(BIN)/python -m benchmarks

ui: setup          ## MLflow's pages over the store
	$(BIN)/ablate ui --store $(STORE)

clean:
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache
