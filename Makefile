# One command each; every target creates the environment it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= runs/demo

.PHONY: demo test lint bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

demo: $(VENV)/.installed  ## a small sweep on the embedded synthetic data, its table and its figure
	$(BIN)/btsr-sweep --study smoke --dataset synthetic --out $(DEMO) --executor local
	$(BIN)/btsr-report --table 2 --study smoke --dataset synthetic --db $(DEMO)/btsr.db
	$(BIN)/btsr-report --figure 3 --study smoke --dataset synthetic --db $(DEMO)/btsr.db --out $(DEMO)/report

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint  ## everything that CI runs
	$(BIN)/python -m pytest

bench: $(VENV)/.installed
	@echo "make bench: no benchmark yet" && exit 1

clean:
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .coverage
