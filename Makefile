# Every task of this project. Needs Python 3.11 or newer and make; sets up the rest in .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BUILD  := .build
ARGS   ?=
# Tests wait more than they reckon, so two at once take half the time.
WORKERS ?= 2

.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo test fuzz faults storm sbom check format-check lint types imports contract pages bench format generate clean

help: ## list the tasks
	@echo 'make TASK, where TASK is one of'
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## start the service with the sandbox account `demo` on a simulated market (stop it with ctrl-c)
	@exec $(BIN)/debt-mgmt serve --demo --data-dir .data $(ARGS)

demo: $(READY) ## tell the whole story of one account in under a minute, from a first order to a forced reduction
	@exec $(BIN)/debt-mgmt demo $(ARGS)

test: $(READY) ## run every test; some of them: make test ARGS='-k leverage'
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

fuzz: $(READY) ## send 100,000 mutated requests and break 10,000 connections, then the same over HTTP; shorter: make fuzz ARGS='--requests 5000'
	@$(BIN)/python -m tests.fuzz $(ARGS)

faults: $(READY) ## take the database away for a minute while callers go on: stopped, frozen, its disk full
	@$(BIN)/python -m tests.faults $(ARGS)

storm: $(READY) ## open 5,000 idle watchers, cut them all off, let them come back at once; then stall one
	@$(BIN)/python -m tests.storm $(ARGS)

sbom: $(READY) ## list every package that is shipped, with versions and licences, as CycloneDX: .build/sbom.cdx.json
	@rm -rf $(BUILD)/shipped && $(PYTHON) -m venv $(BUILD)/shipped
	@$(BUILD)/shipped/bin/python -m pip install --quiet --disable-pip-version-check '.[server]'
	@test -x $(BUILD)/cyclonedx/bin/cyclonedx-py || $(PYTHON) -m venv $(BUILD)/cyclonedx
	@$(BUILD)/cyclonedx/bin/python -m pip install --quiet --disable-pip-version-check 'cyclonedx-bom>=7.5,<8'
	@$(BUILD)/cyclonedx/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --output-file $(BUILD)/sbom.cdx.json $(BUILD)/shipped/bin/python
	@echo 'Written: $(BUILD)/sbom.cdx.json'

check: format-check lint types imports contract pages ## format, lint, types, import rules, contract, generated files

bench: $(READY) ## measure speed against a bare grpc.aio echo in the same run
	@$(BIN)/python -m benchmarks $(ARGS)

format: $(READY) ## format the code and the protos, and mend what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@$(BIN)/buf format --write

generate: $(READY) ## write what is generated: client/debt_mgmt/v1, the configuration pages, docs/brokers.md
	@PYTHON=$(BIN)/python scripts/generate.sh
	@$(BIN)/python -m debt_mgmt.server.config --write
	@$(BIN)/python -m debt_mgmt.server.broker_pages --write

clean: ## remove the virtual environment, the caches and the demo's database
	rm -rf $(VENV) $(BUILD) .data .tools .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The parts of check.
format-check: $(READY)
	@$(BIN)/ruff format --quiet --diff .
	@$(BIN)/buf format --diff --exit-code

lint: $(READY)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/buf lint

types: $(READY)
	@$(BIN)/mypy core server client tests $(wildcard benchmarks examples)

imports: $(READY)
	@$(BIN)/lint-imports --no-cache

# The generated code is what the protos say, and the protos still serve the clients of the last release.
contract: $(READY)
	@rm -rf $(BUILD)/generated
	@PYTHON=$(BIN)/python scripts/generate.sh $(BUILD)/generated
	@diff -r -x __init__.py -x py.typed -x __pycache__ client/debt_mgmt/v1 $(BUILD)/generated/debt_mgmt/v1 \
	  || { echo 'client/debt_mgmt/v1 is not what the protos say: run make generate'; exit 1; }
	@release=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true); \
	if [ -n "$$release" ]; then $(BIN)/buf breaking --against ".git#tag=$$release"; fi

pages: $(READY)
	@$(BIN)/python -m debt_mgmt.server.config
	@$(BIN)/python -m debt_mgmt.server.broker_pages

# The virtual environment, made anew whenever the dependencies change.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'Python 3.11 or newer is needed: make PYTHON=python3.12 ...'; exit 1; }
	@echo 'Setting up $(VENV): takes about a minute, once'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[server,dev]'
	@touch $@
