# Two commands do all set-up: `make demo` and `make test`. Everything lands in .venv and in tests/peers/node_modules.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

BIN := .venv/bin
LOCKS := requirements-build.lock requirements.lock requirements-test.lock
DEMO_STAMP := .venv/.ready-demo-$(shell cat requirements-build.lock requirements.lock pyproject.toml | cksum | cut -d' ' -f1)
TEST_STAMP := .venv/.ready-test-$(shell cat $(LOCKS) pyproject.toml | cksum | cut -d' ' -f1)
PEERS_LOCK := $(wildcard tests/peers/package-lock.json)
PEERS_STAMP := $(if $(PEERS_LOCK),tests/peers/node_modules/.ready-$(shell cat $(PEERS_LOCK) /dev/null | cksum | cut -d' ' -f1))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
OFFLINE = { echo 'That could not be installed. Without a way to the package registry nothing can be: is there a proxy to name' >&2; \
  echo 'in HTTPS_PROXY, or a registry of your own to name in $(1)?' >&2; exit 1; }

.PHONY: help demo test check torture bench wheel reference man lock clean system

help:
	@echo 'make demo     a simulated line, a broker and the agent, with its page and live events'
	@echo 'make test     everything that is checked: style, types, layers, tests'
	@echo 'make check    style, types and layers only'
	@echo 'make torture  the long forms of the crash and load tests; ARGS=tests/delivery for a part'
	@echo 'make bench    how fast it is, all figures of one run; ARGS="--only b" for a part'
	@echo 'make wheel    dist/edge_agent-*.whl'
	@echo 'make reference  docs/reference from the program itself; `make man` writes man pages to dist/man'
	@echo 'make lock     write the lock files again from pyproject.toml'
	@echo 'make clean    remove what the commands above have made'

demo: $(DEMO_STAMP)
	@$(BIN)/edge-agent demo $(ARGS) || [ $$? -eq 130 ]

test: $(TEST_STAMP) system $(PEERS_STAMP)
	@$(BIN)/nox -s check tests

check: $(TEST_STAMP)
	@$(BIN)/nox -s check

torture: $(TEST_STAMP) system $(PEERS_STAMP)
	@packaging/system-packages.sh fish zsh
	@$(BIN)/nox -s torture -- $(ARGS)

bench: $(TEST_STAMP) system
	@$(BIN)/python -m benchmarks $(ARGS)

wheel: $(TEST_STAMP)
	@$(BIN)/nox -s wheel

reference: $(TEST_STAMP)
	@$(BIN)/python -m edge_agent.cli.reference docs/reference

man: $(DEMO_STAMP)
	@$(BIN)/python -m edge_agent.cli.reference --man dist/man

lock: $(TEST_STAMP)
	@$(BIN)/nox -s lock

clean:
	rm -rf .venv .nox dist data tests/peers/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

system:
	@packaging/system-packages.sh mosquitto mosquitto_sub strace ip node npm cc libmodbus mbpoll mkfs.xfs

.venv/bin/python:
	@packaging/create-venv.sh .venv

$(DEMO_STAMP): | .venv/bin/python
	@echo 'Installing what the agent needs into .venv'
	@$(PIP) --require-hashes -r requirements-build.lock -r requirements.lock || $(call OFFLINE,PIP_INDEX_URL)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@rm -f .venv/.ready-demo-* && touch $@

$(TEST_STAMP): $(DEMO_STAMP) | .venv/bin/python
	@echo 'Installing what the tests need into .venv'
	@$(PIP) --require-hashes -r requirements-test.lock || $(call OFFLINE,PIP_INDEX_URL)
	@rm -f .venv/.ready-test-* && touch $@

$(PEERS_STAMP): | system
	@command -v npm >/dev/null || exit 0; \
	echo 'Installing the test servers into tests/peers/node_modules'; \
	cd tests/peers && npm ci --prefer-offline --ignore-scripts --no-audit --no-fund --loglevel=error \
	  || $(call OFFLINE,npm_config_registry); \
	touch $(notdir $(@D))/$(@F)
