# The two commands of the README: `make demo` and `make test`. Each does all its own set-up.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first Python on the path that is new enough; `make PYTHON=/path/to/python test` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)

.DEFAULT_GOAL := help
.PHONY: help setup test demo bench bench-full format clean

help:
	@echo "make demo    install into $(VENV), run the demonstration, write demo-run/report.html"
	@echo "make test    install into $(VENV), run the format check, the linter, the type check and the tests"
	@echo "make bench   time the engines against other frameworks (minutes); bench-full does every job (an hour)"
	@echo "make setup   only install into $(VENV)"
	@echo "make format  format the code and mend what the linter can mend"
	@echo "make clean   remove $(VENV), caches and demo-run"

setup: $(STAMP)

$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "fedunlearn needs Python 3.11 or newer on the PATH; install one, or name it: make PYTHON=/path/to/python"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time, this downloads torch and takes some minutes."
	$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

test: $(STAMP)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy fedunlearn
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

demo: $(STAMP)
	$(BIN)/fedunlearn demo --out demo-run

# Class folders of CIFAR-10 for the jobs that need them; experiments/prepare_cifar10.py makes them.
CIFAR := data/cifar10

bench: $(STAMP)
	$(BIN)/python benchmarks/engines/install_peers.py
	$(BIN)/python benchmarks/engines/run.py --profile quick --repetitions 3 --out bench-results

bench-full: $(STAMP)
	$(BIN)/python benchmarks/engines/install_peers.py
	$(BIN)/python benchmarks/engines/run.py --profile full $(if $(wildcard $(CIFAR)),--cifar $(CIFAR)) --out bench-results

format: $(STAMP)
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis demo-run bench-results .bench
	find fedunlearn tests -name __pycache__ -type d -prune -exec rm -rf {} +
