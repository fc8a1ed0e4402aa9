# Two commands do all set-up: `make demo` and `make test`. Each makes the environment it needs.
VENV ?= .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/demo
# OpenSim 4.6 has wheels for Python 3.11 to 3.13: the first of these that runs is used.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
# A MediaPipe pose model file, where one lies beside the project; see README "Person detection".
POSE_MODEL ?= $(or $(D3KE_POSE_MODEL),$(wildcard ../shared/models/pose_landmarker_heavy.task))
# Our pins stand alone: a machine-wide constraints file must not mix with them.
PIP := PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo test test-fast test-long lint types format benchmark clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.13 found: install one, or make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --editable ".[dev]"
	@echo "Building the body model's cache (once per user, about two minutes)"
	@$(BIN)/python -W ignore -c "from d3ke_platform.sources.anny_body import AnnyBody; AnnyBody()"
	@touch $@

demo: $(VENV)/.installed  ## the main job on the embedded data set, with a report at the end
	$(BIN)/python jobs/demo.py --output $(OUTPUT) $(if $(POSE_MODEL),--pose-model $(POSE_MODEL))

test: lint types  ## lint, types, import rules and all tests
	$(BIN)/python -m pytest

test-fast: $(VENV)/.installed  ## the tests that take seconds
	$(BIN)/python -m pytest -m "not slow and not long"

test-long: $(VENV)/.installed  ## tests of minutes, of clusters and of services; those without theirs skip
	$(BIN)/python -m pytest -m long

lint: $(VENV)/.installed  ## ruff, the import rules and bandit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive d3ke platform jobs cluster

types: $(VENV)/.installed  ## mypy
	$(BIN)/mypy

format: $(VENV)/.installed  ## rewrite to the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmark: export PYTHONPATH := tests/d3ke/skeleton:tests/d3ke/kinematics:tests/d3ke_platform/training:tests/d3ke_platform/stages
benchmark: $(VENV)/.installed  ## speed of the layer, inverse kinematics, labelling, training and scoring
	$(BIN)/python tests/benchmarks/layer_speed.py
	$(BIN)/python tests/benchmarks/ik_speed.py
	$(BIN)/python tests/benchmarks/label_speed.py
	$(BIN)/python tests/benchmarks/train_speed.py
	$(BIN)/python tests/benchmarks/score_speed.py

clean:  ## remove caches and outputs, keep the environment
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
