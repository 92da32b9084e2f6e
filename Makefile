# make check   lint, types, unit + flow + sh, 1,600 simulated histories: about two minutes, no docker
# make test    all of it, with end-to-end tests on real hosts (root on Debian, or a docker engine)
# make simulate   HISTORIES=1000000 of them from SEED=0 on: the first that fails is told, as short as it gets
# make demo    two real hosts, a deploy under load, a rollback, and what its users saw
# make clean   hosts, images and everything else that the above left behind

PYTHON ?= python3
BIN := .venv/bin
HISTORIES ?= 1000000
SEED ?= 0
STAMP := .venv/.installed

.PHONY: check lint test simulate demo bench-quick clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@# One at a time: each folder of tests has a conftest of its own.
	for tests in unit flow sim sh link e2e; do $(BIN)/mypy tests/$$tests || exit; done

check: lint
	$(BIN)/python -m pytest tests/unit tests/flow tests/sh tests/sim --numprocesses 2

# One pytest run at the end, so that its summary is the last word.
test: lint
	$(BIN)/python -m pytest tests/unit tests/flow tests/sh tests/sim tests/link tests/e2e

simulate: $(STAMP)
	$(BIN)/python tests/sim/simulate.py --histories $(HISTORIES) --seed $(SEED)

demo: $(STAMP)
	$(BIN)/python -m testbed.demo

bench-quick: $(STAMP)
	$(BIN)/python -m bench.quick

clean:
	-$(BIN)/python -m testbed down --all
	rm -rf .venv .testbed .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
