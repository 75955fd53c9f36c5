# make run    sets everything up, tags the example pictures, prints a table and draws a contact sheet
# make test   sets everything up, lints, type-checks and tests
PYTHON ?= python3
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: run test check evaluate bench clean

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	touch $@

run: .venv/.done
	$(BIN)/anigender show examples --sheet output/contact-sheet.png

test: .venv/.done check
	$(BIN)/python -m pytest

check: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

evaluate: .venv/.done
	$(BIN)/anigender evaluate --data $(DATA)

bench: .venv/.done
	$(BIN)/python -m benchmarks.throughput

clean:
	rm -rf .venv output
