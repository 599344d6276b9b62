# `make help` lists what there is. Everything lives in .venv, made from $(PYTHON) on the first use and again when the
# requirements change; nothing is installed outside this folder.
PYTHON ?= python3
PORT ?= 8080
# Arguments for pytest: `make test-sqlite TESTS="tests/unit -x"`.
TESTS ?=
# What meets the database; the rest, and what is marked `any_database` there, is the same on any and runs once, with SQLite.
STORED := tests/api tests/corpus tests/db tests/races tests/security
# So do these; they start programs, which takes long, so the ones on PostgreSQL run with the slow tests.
PROGRAMS := tests/processes

BIN := .venv/bin
RUNTIME := .venv/.runtime-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
DEVELOPMENT := .venv/.development-$(shell cat requirements*.txt | cksum | cut -d' ' -f1)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

.DEFAULT_GOAL := help
.PHONY: help setup demo serve migrate test test-sqlite test-postgresql test-slow chaos fuzz lint audit format docs picture bench clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Brokoli needs Python 3.11 or newer; say which: make PYTHON=python3.11 …" >&2; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version)…"
	@# Some systems ship venv without ensurepip; their own pip can fill the environment from outside.
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv && $(PYTHON) -m venv --without-pip .venv && $(PYTHON) -m pip --quiet --python $(BIN)/python install pip; }

$(RUNTIME): requirements.txt | $(BIN)/python
	@echo "Installing what Brokoli needs…"
	@$(PIP) install -r requirements.txt
	@rm -f .venv/.runtime-* && touch $@

$(DEVELOPMENT): requirements.txt requirements-opentelemetry.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing what its development needs…"
	@$(PIP) install -r requirements-dev.txt
	@rm -f .venv/.development-* && touch $@

setup: $(RUNTIME) ## Make .venv with what Brokoli needs.

migrate: $(RUNTIME) ## Bring the database up to date.
	@$(BIN)/python manage.py migrate --verbosity 0

demo: migrate ## Show it: load the examples, serve on PORT, run one and show its result; EXIT=1 ends then.
	@$(BIN)/python manage.py load_examples
	@$(BIN)/python -m examples.demo --port $(PORT) $(if $(EXIT),--exit)

serve: migrate ## Serve on PORT (8080): web server and worker, until Ctrl-C.
	@$(BIN)/python manage.py serve --port $(PORT)

test: lint test-sqlite test-postgresql ## Check everything: lint, then all tests on SQLite and on PostgreSQL.

test-sqlite: $(DEVELOPMENT) ## Run the tests on the embedded default.
	@echo "Tests on SQLite"
	@env -u DATABASE_URL $(PYTEST) -m "not slow" $(TESTS)

test-postgresql: $(DEVELOPMENT) ## Run the tests of what is stored on a PostgreSQL server of their own.
	@echo "Tests on PostgreSQL"
	@$(BIN)/python -m tests.postgres $(PYTEST) -m "not slow and not any_database" $(or $(TESTS),$(STORED))

test-slow: $(DEVELOPMENT) ## Run the tests that take longer, on both databases, and real programs on PostgreSQL.
	@env -u DATABASE_URL $(PYTEST) -m slow $(TESTS)
	@$(BIN)/python -m tests.postgres $(PYTEST) -m "slow and not any_database" $(or $(TESTS),$(STORED))
	@$(BIN)/python -m tests.postgres $(PYTEST) -m "not any_database" $(or $(TESTS),$(PROGRAMS))

chaos: $(DEVELOPMENT) ## Kill workers at random under RUNS (1000) runs and prove that none is lost: DATABASE, WORKERS, SECONDS, SEED.
	@$(BIN)/python -m tests.chaos $(if $(RUNS),--runs $(RUNS)) $(if $(DATABASE),--database $(DATABASE)) $(if $(WORKERS),--workers $(WORKERS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

fuzz: $(DEVELOPMENT) ## Ask every call what its OpenAPI document allows, and what not, as each role: REQUESTS (20000), SECONDS, DATABASE, SEED, CALLERS, OPERATIONS.
	@$(PYTEST) -m hypothesis tests/db tests/fuzz tests/unit --hypothesis-profile=fuzz $(if $(SEED),--hypothesis-seed $(SEED))
	@$(BIN)/python -m tests.fuzz $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(DATABASE),--database $(DATABASE)) $(if $(SEED),--seed $(SEED)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(CALLERS),--callers $(CALLERS)) $(if $(OPERATIONS),--operations '$(OPERATIONS)') $(if $(VERBOSE),--verbose)

lint: $(DEVELOPMENT) ## Check style and types.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

audit: $(DEVELOPMENT) ## Look up known vulnerabilities of all that is installed: fails on one, and with status 3 where nobody could be asked.
	@$(BIN)/python -m tests.advisories $(if $(LENIENT),--unknown-is-no-failure)

bench: $(DEVELOPMENT) ## Measure, as ratios to baselines of the same run; keeps bench/latest.md.
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

format: $(DEVELOPMENT) ## Put the code into its style.
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(RUNTIME) ## Bring the generated parts of the documentation up to date.
	@$(BIN)/python -m docs.generate

picture: migrate ## Draw the README's picture of the demo anew.
	@$(BIN)/python manage.py load_examples
	@$(BIN)/python -m docs.picture

clean: ## Remove .venv and caches (not ./var, which holds your data).
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache
