# `make leaderboard` gives a first board, `make test` checks the code; both install what they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= runs/leaderboard
WORKERS ?= 2
TABLES := profiles/tables

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

# Profiles at BERT-base size, trains on the built-in data, prints the boards and writes the page. After an interruption, run it
# again: it continues.
leaderboard: install
	$(BIN)/skyline run quickstart --out $(OUT) --workers $(WORKERS)
	$(BIN)/skyline board measured --profiles $(OUT)
	$(BIN)/skyline board architecture --profiles $(OUT)
	$(BIN)/skyline site --profiles $(OUT) --out $(OUT)/site
	@echo "The command 'skyline' is in the environment: . $(BIN)/activate"

# The committed records and tables: SST-2, MRPC, CoLA and STS-B, from a folder in GLUE's layout that SKYLINE_DATA_DIR names, or from the
# hub.
results: install
	$(BIN)/skyline run pooling --out profiles --workers $(WORKERS)
	$(BIN)/skyline run rates --out profiles --workers $(WORKERS)
	$(BIN)/skyline run movement-steps --out profiles --workers $(WORKERS)
	$(BIN)/skyline run measured --out profiles --workers $(WORKERS)
	$(BIN)/skyline run realised-speed --out profiles
	$(BIN)/skyline run runtimes --out profiles
	$(BIN)/skyline run ganesh2021 --out profiles --workers $(WORKERS)
	$(BIN)/skyline board measured --front --readme README.md
	$(BIN)/skyline board measured --readme $(TABLES)/measured.md --chart profiles/front.svg
	$(BIN)/skyline board measured --table coverage --readme $(TABLES)/coverage.md
	$(BIN)/skyline board measured --table tasks --readme $(TABLES)/tasks.md
	$(BIN)/skyline board measured --table again --readme $(TABLES)/again.md
	$(BIN)/skyline board archive --readme $(TABLES)/archive.md
	$(BIN)/skyline board measured --table findings --readme $(TABLES)/findings.md
	$(BIN)/skyline board measured --table curves --readme $(TABLES)/curves.md
	$(BIN)/skyline board architecture --readme $(TABLES)/architecture.md
	$(BIN)/skyline board architecture --table sizes --readme $(TABLES)/sizes.md
	$(BIN)/skyline board architecture --table breakdown --readme $(TABLES)/breakdown.md --chart profiles/breakdown.svg
	$(BIN)/skyline board architecture --table reproduction --readme $(TABLES)/reproduction.md

benchmark: install
	$(BIN)/python -m pytest --benchmark -s

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache .benchmarks
