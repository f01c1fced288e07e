# Targets for users and developers; `make help` lists them.
SHELL := /bin/sh
BIN := .venv/bin

.PHONY: help install dev demo test test-fast browser fuzz check format bench lock down clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/' | sort

install:  ## Install the runtime packages into .venv
	@sh .ci/install

dev:  ## Install the runtime and development packages into .venv
	@sh .ci/install dev

demo: install  ## Install, start, run the whole life cycle on real data, stay up until Ctrl-C
	@$(BIN)/plimsoll demo $(DEMO)

# The acceptance tests share one Ray cluster, so they run in one process, first; the rest in two workers.
# Bytecode is kept, whatever the caller's environment says: tests start some hundred Python processes.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest

test: dev  ## Run all tests: unit, story, acceptance; TEST="tests/serve -x" for some
	@sh .ci/chromium
ifdef TEST
	@$(PYTEST) $(TEST)
else
	@$(PYTEST) tests/acceptance
	@$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --ignore tests/acceptance tests
endif

test-fast: dev  ## Run the fast tests: no processes, no browser, no Ray, no Feast
	@$(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder -m "not slow" $(TEST)

browser: dev  ## Run the browser tests in every size and colour scheme
	@sh .ci/chromium
	@$(PYTEST) -m "" tests/console/test_browser.py tests/console/test_browser_late.py

fuzz: dev  ## Send made-up requests to ledger and gateway, many more than `make test` does
	@LEDGER_FUZZ_EXAMPLES=25 GATEWAY_FUZZ_EXAMPLES=50 $(PYTEST) \
		tests/lineage/service/test_openapi_fuzz.py tests/serve/gateway/test_openapi_fuzz.py

check: dev  ## Check style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: dev  ## Format the code and generate the asynchronous client
	@$(BIN)/python .ci/async_client.py
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix --quiet .

bench: dev  ## Run the benchmarks beside peers; BENCH="appends faults.kills" for some
	@$(BIN)/python -m benchmarks $(BENCH)

lock: dev  ## Resolve dependencies again; update uv.lock, environment.yml and NOTICE
	@sh .ci/lock --upgrade
	@$(BIN)/python .ci/environment.py
	@sh .ci/install dev
	@$(BIN)/python .ci/notice.py

down: install  ## Stop the platform of PLIMSOLL_HOME
	@$(BIN)/plimsoll down

clean: down  ## Remove .venv; the state in var/ stays
	rm -rf .venv
