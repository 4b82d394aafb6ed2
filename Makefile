# The daily toolbox: `make run`, `make test`, `make check`, `make bench`, `make demo`.

.PHONY: run test check lint types django bench demo setup setup-dev venv tools
.DEFAULT_GOAL := run

VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := python3 python3.13 /usr/bin/python3.13 python3.12 /usr/bin/python3.12

# Checks read the settings, which make a data folder: give them one of their own.
WITH_SCRATCH_DATA := data=$$(mktemp -d) && trap 'rm -rf "$$data"' EXIT && export KEEPWELL_DATA="$$data" &&

run: setup
	@exec $(BIN)/python manage.py serve

demo: setup
	@export KEEPWELL_DATA="$${KEEPWELL_DATA:-$(CURDIR)/demo-data}" && exec $(BIN)/python manage.py demo

# All tests on SQLite, then those that touch the database once more on PostgreSQL, where it answers.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
test: setup-dev
	$(BIN)/pytest $(PARALLEL)
	$(BIN)/python -m tests.on_postgresql $(PARALLEL)

check: lint types django test

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	find templates -name '*.html' -exec $(BIN)/djade --check {} +

types: setup-dev
	@echo "mypy"; $(WITH_SCRATCH_DATA) $(BIN)/mypy

django: setup-dev
	@echo "makemigrations --check"; $(WITH_SCRATCH_DATA) $(BIN)/python manage.py makemigrations --check --dry-run
	@echo "check --deploy"; $(WITH_SCRATCH_DATA) $(BIN)/python manage.py check --deploy --fail-level ERROR

bench: setup
	@missed=; for bench in benchmarks/bench_*.py; do \
		echo; echo "== $$bench"; $(BIN)/python "$$bench" || missed="$$missed $$bench"; \
	done; \
	if [ -n "$$missed" ]; then echo; echo "Not within their promises:$$missed" >&2; exit 1; fi

# A copy of the requirements inside .venv says what is installed there: nothing is done while both agree.
setup: venv tools
	@if ! cmp -s requirements.txt $(VENV)/requirements.txt && ! cmp -s requirements-dev.txt $(VENV)/requirements-dev.txt; then \
		echo "Installing what Keepwell needs into $(VENV) (about a minute, once)."; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt && \
		cp requirements.txt $(VENV)/requirements.txt; \
	fi

setup-dev: setup
	@if ! cmp -s requirements-dev.txt $(VENV)/requirements-dev.txt; then \
		echo "Installing what tests and checks need into $(VENV)."; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt && \
		cp requirements-dev.txt $(VENV)/requirements-dev.txt; \
	fi

# Each candidate is run, because a name on the PATH may be too old, broken, or lack what makes virtual environments.
venv:
	@if $(BIN)/python -c 'import pip' 2>/dev/null; then exit 0; fi; \
	for python in $(CANDIDATES); do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
			rm -rf $(VENV); exec $$python -m venv $(VENV); \
		fi; \
	done; \
	echo "Keepwell needs Python 3.12 or newer with its venv module. None of these could be used: $(CANDIDATES)." >&2; \
	echo "On Debian or Ubuntu: sudo apt install python3 python3-venv" >&2; \
	exit 1

tools:
	@if ! tar --version 2>/dev/null | grep -q 'GNU tar'; then \
		echo "Keepwell reads folders with GNU tar, and 'tar' here is another program or missing." >&2; \
		echo "On Debian or Ubuntu: sudo apt install tar. Elsewhere put GNU tar first on the PATH under the name tar." >&2; \
		exit 1; \
	fi
