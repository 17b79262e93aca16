# Everything is reachable from here; `make` alone lists it.
#
# `make demo` and `make test` prepare a fresh Debian 12 by themselves.  What is prepared is kept:
# Debian packages are asked for by name, virtual environments carry a stamp that is older than the
# files which describe them when they have to be brought up to date.

# Debian's own Python, because Debian's Mininet is a package for it.
PYTHON   := /usr/bin/python3
VENV     := .venv
RYU_VENV := .venv-ryu
TOPOLOGY ?= star
LABS     ?= 2

READY     := $(VENV)/.ready
RYU_READY := $(RYU_VENV)/.ready
# In mypy's cache: without that, `make check` takes twice as long.
CACHED    := .mypy_cache/.filled

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# Always `python -m`: the first line of an installed script names the folder where it was made.
PIP     = $(1)/bin/python -m pip --disable-pip-version-check install --progress-bar off
# One line for each package that pip gets; errors come by another way and are all shown.
PACKAGES_ONLY := sed --unbuffered --quiet 's/^Collecting \([^ ]*\).*/    \1/p'
PYTEST := $(VENV)/bin/python -m pytest
VMMLAB := $(VENV)/bin/vmmlab

# Pure tests that import what reports are made with, which takes a process seconds, or read sources.
REPORTS := tests/unit/experiments tests/unit/helpers $(wildcard tests/unit/test_*.py) \
           $(addprefix tests/adapters/test_,benchmarks.py cli.py shell.py)
# A process for each part of the tests is enough for two cores; on more, each is given half of them.
HALF  := $(shell cores=$$(nproc); echo $$((cores > 3 ? cores / 2 : 0)))
QUICK := -m "not thorough" --hypothesis-profile quick --quiet --numprocesses $(HALF) --dist loadgroup
WITHOUT_REPORTS := $(addprefix --ignore=,$(REPORTS))

# Where nothing keeps compiled modules, every process of the tests spends seconds on compiling.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
ifeq ($(MAKELEVEL),0)
.NOTPARALLEL:  # the targets share one machine, and its network; the parts of `check` do not
endif
.PHONY: help setup demo shell doctor clean check check-style check-types check-reports \
        check-adapters check-others format test test-system test-ryu test-failures test-report test-thorough \
        conformance bench debian-packages root

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Preparing

setup: debian-packages $(READY) $(CACHED) ## prepare this machine: Debian packages (root), .venv with pinned versions

debian-packages:
	@scripts/install-debian-packages

$(READY): pyproject.toml requirements.txt requirements-dev.txt
	@scripts/install-debian-packages python3-venv
	@echo "==> Making the virtual environment $(VENV) (half a minute, needs the network)"
	@$(PYTHON) -m venv --system-site-packages $(VENV)
	@$(call PIP,$(VENV)) --requirement requirements-dev.txt | $(PACKAGES_ONLY)
	@$(call PIP,$(VENV)) --quiet --no-deps --no-build-isolation --editable .
	@touch $@
	@echo "==> $(VENV) is ready"

# Libraries are read, and all is compiled, once.  This reports nothing and never fails: `make check`
# reads anew what has changed since, and says what is wrong.
$(CACHED): $(READY)
	@echo "==> Filling the caches of make check: types, compiled tests (half a minute)"
	@mkdir -p $(@D)
	@$(PYTEST) --collect-only --quiet tests/unit tests/adapters >/dev/null 2>&1 & \
	    $(VENV)/bin/python -m mypy >/dev/null 2>&1 || true; wait
	@touch $@

$(RYU_READY): requirements-ryu.txt requirements-ryu-build.txt
	@scripts/install-debian-packages python3-venv
	@echo "==> Making the virtual environment $(RYU_VENV) for Ryu 4.34 (half a minute, needs the network)"
	@$(PYTHON) -m venv $(RYU_VENV)
	@$(call PIP,$(RYU_VENV)) --requirement requirements-ryu-build.txt | $(PACKAGES_ONLY)
	@$(call PIP,$(RYU_VENV)) --no-build-isolation --requirement requirements-ryu.txt | $(PACKAGES_ONLY)
	@touch $@
	@echo "==> $(RYU_VENV) is ready"

root:
	@((EUID == 0)) || \
	    { echo "This needs root, for network namespaces and Open vSwitch: sudo make $(MAKECMDGOALS)"; exit 1; }

## Running

demo: root debian-packages $(READY) ## the main job: one VM moves, twice; a table and a report of what happened to its traffic (root)
	@$(VMMLAB) run demo

shell: root debian-packages $(READY) ## Mininet's command line with an overlay: make shell TOPOLOGY=leaf-spine (root)
	@$(VMMLAB) shell $(TOPOLOGY)

doctor: $(READY) ## what this machine can do, what is missing, and the command that fixes it
	@$(VMMLAB) doctor

clean: root $(READY) ## remove what a crashed run left on this machine, and nothing else (root)
	@$(VMMLAB) clean

## Testing

test: root setup check test-thorough test-system test-ryu ## all tests: check, test-thorough, test-system, test-ryu (root)

check: $(READY) ## format, lint, types and the pure tests; no figures, few examples; no root
	@echo "==> side by side, each shown when it has ended: ruff, mypy, three parts of the pure tests"
	@$(MAKE) --no-print-directory --jobs=5 --keep-going --output-sync=target \
	    check-style check-types check-reports check-adapters check-others

# The reports' tests take longest: the others leave a core to them.
check-style: $(READY)
	@echo "==> ruff format --check"; nice $(VENV)/bin/python -m ruff format --check .
	@echo "==> ruff check"; nice $(VENV)/bin/python -m ruff check .

check-types: $(READY)
	@echo "==> mypy"; nice $(VENV)/bin/python -m mypy

check-reports: $(READY)
	@echo "==> pytest of reports and sources, quick"; $(PYTEST) $(QUICK) $(REPORTS)

check-adapters: $(READY)  # they wait for time-outs, too
	@echo "==> pytest of adapters, quick"; nice $(PYTEST) $(QUICK) tests/adapters $(WITHOUT_REPORTS)

check-others: $(READY)
	@echo "==> pytest of all others, quick"; nice $(PYTEST) $(QUICK) tests/unit $(WITHOUT_REPORTS)

test-thorough: $(READY) ## what check leaves out of the pure tests: figures, guests, all combinations, more examples
	@echo "==> pytest tests/unit tests/adapters, thorough"
	@$(PYTEST) tests/unit tests/adapters -m "thorough or hypothesis" --numprocesses auto --dist loadgroup

test-system: root setup ## tests with real Mininet, Open vSwitch, NVA and packets, LABS=2 at a time (root)
	@failed=0; \
	    echo "==> pytest tests/system, $(LABS) labs side by side"; \
	    $(PYTEST) tests/system -m "not alone and not ryu and not matrix" \
	        --numprocesses $(LABS) --dist loadgroup || failed=$$?; \
	    echo "==> pytest tests/system -m alone"; \
	    $(PYTEST) tests/system -m "alone and not ryu and not matrix" || failed=$$?; \
	    exit $$failed

test-ryu: root setup $(RYU_READY) ## the NVA under Ryu 4.34, in a virtual environment of its own (root)
	@echo "==> pytest tests/system -m ryu"; $(PYTEST) tests/system -m ryu

test-failures: root setup ## every failure at every moment of a move, with end markers and without; half an hour (root)
	@echo "==> pytest tests/system/test_*failures.py -m matrix"; $(PYTEST) tests/system/test_*failures.py -m matrix

test-report: root setup ## the sample's report in Chromium, which it installs, as pictures and print (root)
	@scripts/install-debian-packages chromium
	@$(call PIP,$(VENV)) --quiet --requirement requirements-browser.txt
	@echo "==> pytest test_page_in_a_browser.py"
	@$(PYTEST) tests/unit/experiments/report/test_page_in_a_browser.py
	@$(VENV)/bin/python -m tests.helpers.browser build/report results/sample

conformance: root setup $(RYU_READY) ## run the tests that show requirements; write docs/conformance.md (root)
	@echo "==> pytest tests -m shows --record-outcomes"
	@failed=0; $(PYTEST) tests -m "shows and not alone" --record-outcomes \
	        --numprocesses $(LABS) --dist loadgroup || failed=$$?; \
	    $(PYTEST) tests -m "shows and alone" --record-outcomes || failed=$$?; \
	    $(VENV)/bin/python docs/generate.py; exit $$failed

bench: root setup ## bring-up, probe, floods and the NVA's speed, beside something plain (root)
	@$(VENV)/bin/python -m benchmarks

format: $(READY) ## format the code and mend what ruff can mend
	@$(VENV)/bin/python -m ruff format .
	@$(VENV)/bin/python -m ruff check --fix .
