# Targets for users and developers; `make help` lists them.
SHELL := /bin/sh
BIN := .venv/bin

.PHONY: help install dev demo test check format bench lock down clean

help:  ## List the targets
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/:/' | sort

install:  ## Install the runtime packages into .venv
	@sh .ci/install

dev:  ## Install the runtime and development packages into .venv
	@sh .ci/install dev

demo: install  ## Install, start, run the whole life cycle on real data, stay up until Ctrl-C
	@$(BIN)/plimsoll demo $(DEMO)

test: dev  ## Run all tests: unit, story, acceptance; TEST=… for some
	@sh .ci/chromium
	@$(BIN)/python -m pytest $(TEST)

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
