# Every target sets up what it needs. `make demo` is the place to start.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
STORE ?= runs
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo check lint test chaos soak fuzz audit bench results ui clean

help:              ## this list
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 14

setup: $(VENV)/.ready  ## install everything into .venv

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "ablate needs Python >= 3.11, found $(PYTHON); try: make $(MAKECMDGOALS) PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: setup        ## the main job: train and compare, at the scale of this machine
	$(BIN)/ablate sweep search_spaces/vivat_losses.yaml --store $(STORE)

check: lint        ## lint and the fast tests, about 10 minutes on 2 cores: before each commit
	$(PYTEST) -q -m "not slow"

lint: setup        ## format, style, types, and which package may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

test: setup        ## all tests; pdflatex, Chromium and PostgreSQL are used where they are installed
	$(PYTEST) --durations=25

chaos: setup       ## CASES (200) seeded faults in sweeps of a small study, and a table of what they left; about 25 s each
	$(BIN)/python -m tests.chaos $(or $(CASES),200)

soak: setup        ## growth of memory and open files over a sweep of 300 trials; 16 writers against one MLflow server
	$(BIN)/python -m tests.chaos.soak
	$(BIN)/python -m tests.chaos.writers

fuzz: setup        ## 20 000 changed studies, expressions, records, headers: no traceback, at most 1 GiB more; half an hour
	ABLATE_FUZZ_CASES=20000 $(BIN)/python -m pytest -q --timeout 0 tests/fuzz

audit: setup       ## known vulnerabilities of the installed packages: a warning, which fails nothing
	@.ci/audit

bench: setup       ## speed as ratios against named peers; writes benchmarks/results/
	$(BIN)/python -m benchmarks

results: setup     ## what the committed results of studies lack; STUDIES="NAME …" runs these, minutes to an hour each
	$(BIN)/python analysis/results/make.py $(STORE) $(STUDIES)

ui: setup          ## MLflow's pages over the store
	$(BIN)/ablate ui --store $(STORE)

clean:             ## remove the environment and all caches; the store stays
	rm -rf $(VENV) *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
