# Plimsoll. `make demo` shows everything on real data; `make test` proves it.
SHELL := /bin/sh
BIN := .venv/bin

.PHONY: help install dev demo test test-fast check format bench lock down clean

help:  ## This list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/' | sort

install:  ## Everything that running needs, into .venv
	@sh .ci/install

dev:  ## Everything that working on it needs
	@sh .ci/install dev

demo: install  ## Install, start, tell the whole story on real data, stay up until Ctrl-C
	@$(BIN)/plimsoll demo $(DEMO)

# Two workers: the platform of the acceptance tests takes one processor for minutes. Their group begins first.
# Bytecode is kept, whatever the caller's environment says: tests start some hundred Python processes.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist loadgroup --no-loadscope-reorder

test: dev  ## All tests: unit, story, acceptance; TEST="tests/serve -x" for some only
	@sh .ci/chromium
	@$(PYTEST) $(TEST)

test-fast: dev  ## The inner loop: no processes, no browser, no Ray, no Feast
	@$(PYTEST) -m "not slow" $(TEST)

check: dev  ## Style, types, import contracts, lock and environment in step
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: dev  ## Format the code, and write what is made of other code
	@$(BIN)/python .ci/async_client.py
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: dev  ## Measure, side by side with peers; BENCH="appends faults.kills" for some only
	@$(BIN)/python -m benchmarks $(BENCH)

lock: dev  ## Resolve dependencies anew; updates uv.lock and environment.yml
	@sh .ci/lock --upgrade
	@$(BIN)/python .ci/environment.py

down: install  ## Stop everything
	@$(BIN)/plimsoll down

clean: down  ## Remove the environment; the state in var/ stays
	rm -rf .venv
