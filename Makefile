# Two commands do everything on a bare Debian or Raspberry Pi OS: `make demo`, `make test`.
# Each sets up what it needs (system packages included) in one environment, .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin

# Numerical libraries would start a thread a core each; two test processes would then crowd
# one another out, and a figure for one thread would not be one.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=2

.PHONY: help
help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## a piano piece is heard at the pace of real time; no microphone, no broker needed
	@scripts/setup.sh demo
	@$(BIN)/sostenuto demo

.PHONY: test
test: ## linters, types, import contract and all tests (under a quarter of an hour)
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	$(ONE_THREAD) $(BIN)/pytest -n 2

.PHONY: test-unit
test-unit: ## only the quick tests (under two minutes)
	@scripts/setup.sh test
	$(ONE_THREAD) $(BIN)/pytest -n 2 -m "not slow"

.PHONY: lint
lint: ## ruff, mypy --strict, the import contract
	@scripts/setup.sh test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy edge converters fleet device
	$(BIN)/lint-imports

.PHONY: format
format: ## lay the code out as the linter wants it
	@scripts/setup.sh test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: ## accuracy, speed, memory and delay, as a table and as bench.json
	@scripts/setup.sh test
	$(ONE_THREAD) $(BIN)/python -m benchmarks

.PHONY: peers
peers: ## Basic Pitch and parangonar into .peers/: bench then measures them beside ours
	@scripts/setup.sh test
	@scripts/peers.sh

.PHONY: contract
contract: ## the MQTT contract's schemas and page, printed from its types
	@scripts/setup.sh test
	$(BIN)/python -m edge.publish.contract schema > docs/schema/sostenuto-v1.json
	$(BIN)/python -m edge.publish.contract asyncapi > docs/schema/asyncapi.json
	$(BIN)/python -m edge.publish.contract html > docs/contract.html

.PHONY: wheel
wheel: ## the distribution, in dist/
	@scripts/setup.sh test
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .
	@ls -l dist/*.whl

.PHONY: clean
clean: ## everything that was made here, .venv included; what you trained (runs/) stays
	rm -rf .venv .venv-tflite .peers build dist test-output bench.json
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
