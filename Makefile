# The whole of working on bitsd: `make run`, `make test`, `make check`.
PYTHON ?= python3
BIN := .venv/bin
comma := ,
LINTED := bitsd tests examples benchmarks
# Building gssapi needs the headers of MIT Kerberos (Debian: libkrb5-dev).
WINDOWS_AUTH := $(if $(shell command -v krb5-config),$(comma)windows-auth)

.PHONY: run test test-fast bench crash power soak faults fuzz check lint format types coverage clean

# A BITS server for ./images on http://127.0.0.1:8080, whatever was there before.
run: .venv/run
	$(BIN)/bitsd serve

# Everything; what a machine lacks of tests/debian-packages.txt is skipped and said.
test: .venv/test
	$(BIN)/pytest -q -n auto

# The same with uvloop, which is used where it is installed.
test-fast: .venv-fast/test
	.venv-fast/bin/pytest -q -n auto

# Every fault of the disk that can be injected; `make test` takes one in three of some.
faults: .venv/test
	BITSD_FAULTS=all $(BIN)/pytest -q -n auto tests/http/test_injected.py tests/store/test_injected_sweep.py

# Every state that a power cut can leave, and disks that stop: a few minutes, as root.
power: .venv/test
	BITSD_POWER=full $(BIN)/pytest -q -n auto -rP --show-capture=stdout tests/power

# bitsd against nginx and others: at most a quarter of an hour, on a machine that is idle.
bench: .venv/bench
	$(BIN)/python -m benchmarks

# The server killed at 400 random instants under uploads; `python -m crash --help`.
crash: .venv/test
	PYTHONPATH=tests $(BIN)/python -m crash --workers 1
	PYTHONPATH=tests $(BIN)/python -m crash --workers 2

# One server used for 10 minutes, then measured; `python -m crash.soak --help`.
soak: .venv/test
	PYTHONPATH=tests $(BIN)/python -m crash.soak

# Octets that nobody thought of, FUZZ_SECONDS for each of what reads them.
FUZZ_SECONDS ?= 60
fuzz: .venv/fuzz
	$(BIN)/python tests/fuzz/run.py $(FUZZ_SECONDS)

check: lint types coverage

lint: .venv/test
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/ruff check $(LINTED)

format: .venv/test
	$(BIN)/ruff format $(LINTED)
	$(BIN)/ruff check --fix $(LINTED)

types: .venv/test
	$(BIN)/mypy bitsd examples benchmarks

coverage: .venv/test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n auto
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=100

.venv/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit("bitsd needs Python 3.11 or newer") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/pip pyproject.toml
	$(BIN)/pip install -q -e .
	touch $@

.venv/test: .venv/bin/pip pyproject.toml
	$(BIN)/pip install -q -e '.[test$(WINDOWS_AUTH)]'
	touch $@

.venv-fast/test: pyproject.toml
	$(PYTHON) -m venv .venv-fast
	.venv-fast/bin/pip install -q -e '.[test,fast$(WINDOWS_AUTH)]'
	touch $@

.venv/bench: .venv/test
	$(BIN)/pip install -q -e '.[bench]'
	touch $@

.venv/fuzz: .venv/test
	$(BIN)/pip install -q -e '.[fuzz]'
	touch $@

clean:
	rm -rf .venv .venv-fast .fuzz .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
