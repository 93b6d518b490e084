# `make help` lists the targets. Each target creates .venv if it is missing; PYTHON chooses the
# interpreter for it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
NATIVE := $(wildcard native/*.[ch] native/*/*.[ch])
PACKAGE := pyproject.toml setup.py ipckit/_core/version.py $(NATIVE)

.DEFAULT_GOAL := help
.PHONY: help demo demo-bridge test check docs verify mutants soak bench sanitize sdist wheels clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(VENV)/.installed ## watch two processes exchange typed messages
	@$(BIN)/python scripts/demo.py

demo-bridge: $(VENV)/.test ## two hosts share jobs over NATS; the link is cut, bridges are killed
	@$(BIN)/python scripts/demo_bridge.py

test: $(VENV)/.test ## the tests, in under 5 minutes on 2 cores
	PYTHON=$(abspath $(BIN))/python tests/run.sh -m "not soak and not analysis" $(ARGS)

check: $(VENV)/.dev ## ruff, mypy --strict, pyright, the quick model checks, the test of the layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q -m "not soak" tests/house/test_layers.py tests/house/test_stubs.py tests/typing tests/verify

docs: $(VENV)/.dev ## the documentation as a site, in build/site
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet docs build/site
	$(BIN)/python docs/check_site.py build/site
	@echo "open build/site/index.html"

verify: ## the model checker: all orders of the steps within bounds, sleep and wake, and mutants
	$(PYTHON) tests/verify/run.py $(ARGS)
	$(PYTHON) tests/verify/spin.py
	$(PYTHON) tests/verify/mutants.py --sample 12

mutants: ## weaken each memory order and barrier; a scenario of the model checker must fail
	$(PYTHON) tests/verify/mutants.py $(ARGS)

soak: $(VENV)/.test ## the long tests: hundreds of kills, thousands of messages
	IPCKIT_TEST_EXEC=1 PYTHON=$(abspath $(BIN))/python tests/run.sh -m soak $(ARGS)

bench: $(VENV)/.bench ## ipckit beside other libraries, in one run; ARGS="channel --quick" runs a part
	$(BIN)/python bench/run.py $(ARGS)

sanitize: $(VENV)/.test ## the tests of calls in one process, over a build with ASan and UBSan
	BIN=$(abspath $(BIN)) sh tests/ring/sanitize.sh

sdist: $(VENV)/.wheels ## the source distribution, in dist/
	$(BIN)/python tools/build_wheels.py --sdist

wheels: $(VENV)/.wheels ## the source distribution, and a wheel for each platform, in dist/
	$(BIN)/python tools/build_wheels.py $(ARGS)

clean: ## remove what the other targets created
	rm -rf $(VENV) build dist *.egg-info ipckit/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ipckit needs Python 3.11 or later; name one: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

# The distribution was called ipckit before. Both distributions have the same files, so the old one
# is removed first: removing it later would delete the command too.
$(VENV)/.installed: $(VENV)/bin/pip $(PACKAGE)
	@$(PIP) --quiet uninstall --yes ipckit
	$(PIP) install --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	IPCKIT_WERROR=1 $(PIP) install --editable '.[test]'
	@touch $@

# The bench runs without a library that cannot be installed, and its tables say so.
$(VENV)/.bench: $(VENV)/.test
	$(BIN)/python bench/install.py
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	IPCKIT_WERROR=1 $(PIP) install --editable '.[dev]'
	@touch $@

$(VENV)/.wheels: $(VENV)/.installed
	$(PIP) install --editable '.[wheels]'
	@touch $@
