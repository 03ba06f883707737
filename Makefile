# Two commands do everything on a fresh machine that has Python >= 3.11 and a C compiler:
#
#   make run     build and install the wheel into .venv, start a broker on 127.0.0.1:9092
#   make test    the same, with the test extra; then lint, types, import arrows and every test
#
# For work on the code: make build (in place, seconds), make check (rules and fast tests),
# make debug (assertions on), make sanitize (bad memory, undefined behaviour), make bench, make compare
# (beside other brokers), make gate (instructions of the hot paths against stored ones, seconds).
# Nothing is done twice: a stamp in .venv remembers what was installed, and it is redone only when a
# source file is newer.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 9092
DATA ?= ./kcore-data
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?=
COMPARE_ARGS ?=
GATE_ARGS ?=

# Tests run against the wheel in .venv, as a stranger has it. Without this variable Python puts the
# working directory first on its path, and the source folder kcore/, which holds no compiled
# modules, would hide the installed package, here and in every child process that a test starts.
export PYTHONSAFEPATH = 1
unexport PYTHONPATH

SOURCES := pyproject.toml setup.py README.md $(shell find kcore python -name '*.py' -o -name '*.py[xi]' \
             -o -name '*.pxd' -o -name '*.h' -o -name '*_impl.c' -o -name py.typed)

.PHONY: run test bench compare growth gate build debug sanitize check gen clean

run: $(VENV)/.installed
	@$(BIN)/kcore serve --listen $(HOST):$(PORT) --data-dir $(DATA)

test: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/python ci/check.py
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/python ci/check.py
	$(BIN)/python -m pytest -x -q -m "not client and not peer" $(PYTEST_ARGS)

bench: $(VENV)/.installed $(VENV)/.tools
	@mkdir -p .benchmarks
	$(BIN)/python -m pytest benches --benchmark-only --benchmark-json=.benchmarks/latest.json -q $(PYTEST_ARGS)
	$(BIN)/python benches/report.py .benchmarks/latest.json

gate: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/python ci/bench_gate.py $(GATE_ARGS)

# Beside Apache Kafka and Tansu, 20 minutes; `make compare COMPARE_ARGS=--help` says what it does.
compare: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/python ci/extras.py compare > $(VENV)/requirements-compare.txt
	$(PIP) install -q -r $(VENV)/requirements-compare.txt
	$(BIN)/python benches/compare $(COMPARE_ARGS)

# What a request costs with 10,000 partitions, 5,000 connections, 100,000 topics, 20 GiB; four minutes.
growth: build $(VENV)/.tools
	$(BIN)/python ci/extras.py compare > $(VENV)/requirements-compare.txt
	$(PIP) install -q -r $(VENV)/requirements-compare.txt
	PYTHONPATH=.:python $(BIN)/python -m benches.growth $(GROWTH_ARGS)

# In place: the compiled modules land beside their sources; run with PYTHONPATH=.:python.
build: $(VENV)/.tools
	$(BIN)/python setup.py -q build_ext --inplace

debug: $(VENV)/.tools
	KCORE_DEBUG=1 $(BIN)/python setup.py -q build_ext --inplace --force

# Leaves instrumented modules in the tree: `make build` with --force, or `make clean`, afterwards.
# The interpreter is not instrumented, so the sanitizer comes first by LD_PRELOAD and memory from
# malloc. A small quarantine: tests that bound a broker's memory run too.
sanitize: $(VENV)/.tools
	KCORE_SANITIZE=1 $(BIN)/python setup.py -q build_ext --inplace --force
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=4 \
	  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 PYTHONMALLOC=malloc PYTHONPATH=.:python \
	  $(BIN)/python -m pytest -q tests/native tests/hostile tests/parity $(PYTEST_ARGS)

gen: build
	$(BIN)/python ci/gen.py
	PYTHONPATH=python:. $(BIN)/python ci/gen_handlers.py

clean:
	rm -rf build dist wheelhouse *.egg-info .benchmarks
	find kcore -name '*.so' -delete
	find kcore -name '*.c' ! -name '*_impl.c' -delete

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "kcore needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# build/ keeps the objects, so that one edited unit is one recompiled unit; the Python files in it
# are dropped first, or a module deleted from the tree would live on in the wheel.
$(VENV)/.installed: $(VENV)/.created $(SOURCES)
	@if [ -d build ]; then find build -name '*.py' -delete; fi
	rm -rf build/wheel
	$(PIP) wheel -q --no-deps -w build/wheel .
	$(PIP) install -q build/wheel/kcore-*.whl
	$(PIP) install -q --no-deps --force-reinstall build/wheel/kcore-*.whl
	@touch $@

# The test extra names this same project, so its list is read out of pyproject.toml: installing
# `.[test]` would build the wheel a second time.
$(VENV)/.tools: $(VENV)/.created pyproject.toml
	$(BIN)/python ci/extras.py test bench > $(VENV)/requirements-test.txt
	$(PIP) install -q -r $(VENV)/requirements-test.txt
	@touch $@
