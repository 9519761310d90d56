# Two commands set everything up: `make test` and `make leaderboard`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/leaderboard
WORKERS ?= 2

.PHONY: install test lint leaderboard results benchmark clean

install: $(VENV)/.installed

# torch first and alone, so that no other package pulls another build of it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[offline,onnx,openvino,test,dev]'
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The fast tests first; a failure there stops before the slow ones.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow and not browser" -n 2 --dist loadfile
	$(BIN)/python -m pytest -q -m "slow or browser"

# Profiles at BERT-base size, trains on the built-in data, and writes board and page. Resumable: run it again after an interruption.
leaderboard: install
	$(BIN)/skyline run quickstart --out $(OUT) --workers $(WORKERS)
	$(BIN)/skyline board measured --profiles $(OUT)
	$(BIN)/skyline board architecture --profiles $(OUT)
	$(BIN)/skyline site --profiles $(OUT) --out $(OUT)/site

# The committed results: SST-2, MRPC and CoLA (name a folder in GLUE's layout with SKYLINE_DATA_DIR, or have a network).
results: install
	$(BIN)/skyline run first-result --out profiles --workers $(WORKERS)
	$(BIN)/skyline run weights-and-structure --out profiles --workers $(WORKERS)
	$(BIN)/skyline run distillation-and-inference --out profiles --workers $(WORKERS)
	$(BIN)/skyline run compounds --out profiles --workers $(WORKERS)
	$(BIN)/skyline run findings --out profiles --workers $(WORKERS)
	$(BIN)/skyline run realised-speed --out profiles
	$(BIN)/skyline run dynamic-speed --out profiles
	$(BIN)/skyline run runtimes --out profiles
	$(BIN)/skyline run ganesh2021 --out profiles --workers $(WORKERS)
	$(BIN)/skyline board measured --front --readme README.md
	$(BIN)/skyline board measured --readme README.md
	$(BIN)/skyline board measured --table findings --readme README.md
	$(BIN)/skyline board measured --table curves --readme README.md
	$(BIN)/skyline board architecture --readme README.md
	$(BIN)/skyline board architecture --table sizes --readme README.md
	$(BIN)/skyline board architecture --table breakdown --readme README.md --chart profiles/breakdown.svg
	$(BIN)/skyline board architecture --table reproduction --readme README.md

benchmark: install
	$(BIN)/python -m pytest --benchmark -s

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache .benchmarks
