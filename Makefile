# Everything a newcomer needs: `make demo`, `make test`. Each target sets up what it needs by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed


.PHONY: jaeger help setup check test test-all demo up down bench generate lock clean

help:            ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  %-10s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Make the virtual environment, from the lock, hashes checked

$(STAMP): requirements.lock requirements-bootstrap.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Interlock needs Python 3.11 or newer; '$(PYTHON)' is older. Give another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "'$(PYTHON) -m venv' failed: install the venv module of your Python (Debian: python3-venv)."; exit 1; }
	@echo "Setting up $(VENV) from requirements.lock ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

check: $(STAMP)  ## Lint, types, import contracts, tidy rules: seconds
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m interlock.codegen --check
	$(BIN)/pytest -q tests/tidy

test: $(STAMP)   ## The tests, on real servers that they start themselves
	$(BIN)/pytest -q

test-all: $(STAMP) ## The tests with the long ones and the faults
	$(BIN)/pytest -q -m "slow or fault or not (slow or fault)"

demo: $(STAMP)   ## The main job, told from start to end on the embedded stack
	$(BIN)/python -m examples.fraud.demo

up: $(STAMP)     ## Start the stack and leave it running
	$(BIN)/interlock up

down: $(STAMP)   ## Stop the stack
	$(BIN)/interlock down

bench: $(STAMP)  ## Measure everything that is promised about speed: one report, interleaved rounds, ratios with intervals
	$(BIN)/python -m tests.bench

JAEGER := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/interlock/jaeger/jaeger-all-in-one
jaeger:          ## Build the real Jaeger from its Go modules (needs Go 1.26, takes minutes), to look at traces
	@command -v go >/dev/null || \
	  { echo "Jaeger is built from Go modules, and there is no 'go' on the PATH: install Go 1.26 or newer, then 'make jaeger' again."; exit 1; }
	@mkdir -p $(dir $(JAEGER))
	cd deploy/jaeger && go build -trimpath -ldflags "-s -w" -o $(JAEGER) github.com/jaegertracing/jaeger/cmd/all-in-one
	@echo "Built $(JAEGER). How to run it, and to send it traces: docs/howto/trace-a-request.md"

generate: $(STAMP) ## Write everything that is derived from schemas/ and settings
	$(BIN)/python -m interlock.codegen

lock: $(STAMP)   ## Resolve the dependencies anew, with hashes and without addresses
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --no-header --no-annotate \
	  --upgrade --quiet pyproject.toml --output-file requirements.lock

clean:           ## Remove what the targets made (not the caches)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
