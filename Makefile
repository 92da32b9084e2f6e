# make check   lint, types, unit + flow + sh, 400 simulated histories, no docker; LONG=yes: with the tests that take long, 1,600 histories
# make test    all of it, with end-to-end tests on real hosts (root on Debian, or a docker engine)
# make faults  operators killed, links cut, hosts rebooted, under load: an hour of it, or MINUTES=10, or FAULTS="--only link"
# make plants  bugs planted in the product, each of which the judges of `make faults` must find: three minutes
# make soak    100 deploys and rollbacks at random, with faults, under load, and then everything is counted; ROUNDS=20
# make simulate   HISTORIES=1000000 of them from SEED=0 on: the first that fails is told, as short as it gets
# make demo    two real hosts, a deploy under load, a rollback, and what its users saw
# make bench   docs/performance.md, measured against a bare script, pyinfra, Ansible, rsync: 25 minutes; BENCH="--only uploads"
# make docs    the pages of docs/ as a site, in site/; a link that leads nowhere fails
# make clean   hosts, images and everything else that the above left behind

PYTHON ?= python3
BIN := .venv/bin
HISTORIES ?= 1000000
SEED ?= 0
STAMP := .venv/.installed
BENCH_STAMP := .venv/bench/.installed

# Bytecode is kept, whatever the environment says: without it each worker of pytest, and each program that a test starts,
# compiles everything anew.
unexport PYTHONDONTWRITEBYTECODE

# Workers of pytest, for two processors: many tests wait, and leave theirs idle.
WORKERS ?= 5

.PHONY: check lint test faults plants soak simulate demo bench bench-quick docs clean

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
	$(BIN)/python -m pytest tests/unit tests/flow tests/sh tests/sim $(if $(LONG),,-m "not long") --numprocesses $(WORKERS)

# The last run is the long one, on real hosts: a process for each kind of them.
test: lint
	$(BIN)/python -m pytest tests/unit tests/flow tests/sh tests/sim tests/link --numprocesses $(WORKERS)
	$(BIN)/python -m pytest tests/e2e --numprocesses 2

faults: $(STAMP)
	$(BIN)/python -m testbed.faults --minutes $(or $(MINUTES),60) $(FAULTS)

plants: $(STAMP)
	$(BIN)/python -m testbed.faults.plants

soak: $(STAMP)
	$(BIN)/python -m testbed.faults.soak --rounds $(or $(ROUNDS),100)

simulate: $(STAMP)
	$(BIN)/python tests/sim/simulate.py --histories $(HISTORIES) --seed $(SEED)

demo: $(STAMP)
	$(BIN)/python -m testbed.demo

# In a venv of its own: the contestants are no dependencies of ours.
$(BENCH_STAMP): pyproject.toml
	$(PYTHON) -m venv .venv/bench
	.venv/bench/bin/python -m pip install --quiet --editable '.[bench]'
	touch $(BENCH_STAMP)

bench: $(BENCH_STAMP)
	@command -v rsync >/dev/null || { echo "rsync is not here: apt install rsync"; exit 1; }
	.venv/bench/bin/python -m bench $(BENCH)

bench-quick: $(STAMP)
	$(BIN)/python -m bench.quick

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --strict

# Without the venv, which there may be none of; hosts that cannot be removed keep their keys, for another try.
clean:
	$(PYTHON) -m testbed down --all
	rm -rf .venv .testbed .mypy_cache .ruff_cache .pytest_cache .hypothesis .cache dist site
