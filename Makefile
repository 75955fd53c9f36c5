# make run    sets everything up, tags the example pictures, prints a table and draws a contact sheet
# make test   sets everything up, lints, type-checks and tests
# make bench  all measurements of speed, each a table and a JSON file in output/bench
#
# torch comes from pip's own index, on Linux with CUDA. TORCH_INDEX=https://download.pytorch.org/whl/cpu takes a CPU's.
PYTHON ?= python3
TORCH_INDEX ?=
BIN := .venv/bin
DATA ?= ../shared/data

.PHONY: run test check evaluate bench clean

.venv/.done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		$(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
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

# The cascade benchmarks need CASCADE=lbpcascade_animeface.xml and OPENCV4=a Python with opencv-python 4 and onnxruntime.
CASCADE ?= $(DATA)/lbpcascade_animeface.xml
OPENCV4 ?= $(BIN)/python
bench: .venv/.done
	$(BIN)/python -m benchmarks.throughput --output output/bench/throughput.json
	$(BIN)/python -m benchmarks.classifier --output output/bench/classifier.json
	$(BIN)/python -m benchmarks.folder --output output/bench/folder.json
	$(BIN)/python -m benchmarks.growth --output output/bench/growth.json
	$(BIN)/python -m benchmarks.nodes --output output/bench/nodes.json
	$(BIN)/python -m benchmarks.gpu --output output/bench/gpu.json
	-$(BIN)/python -m benchmarks.cascade --cascade $(CASCADE) --opencv4 $(OPENCV4)
	-$(BIN)/python -m benchmarks.sources --cascade $(CASCADE) --opencv4 $(OPENCV4) --output output/bench/sources.json

clean:
	rm -rf .venv output
