# One command each; every target creates the environment it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PEERS  ?= .venv-peers
DEMO   ?= runs/demo

.PHONY: demo test lint chaos bench halving peers calibrate clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
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
	$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

chaos: $(VENV)/.installed  ## kills drivers, workers and Ray for an hour; needs MovieLens 100K in the folder BTSR_TEST_DATA
	BTSR_CHAOS=1 $(BIN)/python -m pytest tests/sweep/test_chaos.py -m chaos -s

$(PEERS)/.installed: tests/bench/constraints-peers.txt
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint tests/bench/constraints-peers.txt recbole 'rectools[torch]'
	touch $@

bench: $(VENV)/.installed $(PEERS)/.installed  ## against the peers, four to five hours (growth of cost: 75 minutes); BENCH="--quick" or "--only ml1m-ce"
	@echo "$(if $(BENCH),,All cases take four to five hours on two quiet cores. )An interrupted run goes on where it stopped."
	$(BIN)/python -m tests.bench --peers $(PEERS)/bin/python $(if $(BENCH),$(BENCH),--report BENCHMARKS.md)

halving: $(VENV)/.installed  ## what a pruner would have saved; HALVING="--db runs/btsr.db --study alpha_lambda --dataset ml1m"
	$(BIN)/python -m tests.bench.halving $(HALVING)

peers: $(VENV)/.installed $(PEERS)/.installed  ## our metrics and our SASRec against RecTools' on ML-1M, a quarter of an hour
	$(BIN)/python -m tests.peers --peers $(PEERS)/bin/python $(if $(PEERS_OPTIONS),$(PEERS_OPTIONS),--report PEERS.md)

calibrate: $(VENV)/.installed  ## false marks between identical methods; CALIBRATE="--db runs/btsr.db" takes real runs
	$(BIN)/python -m tests.calibration.calibrate $(CALIBRATE)

clean:  ## keeps your results: only what make itself has made goes
	rm -rf $(VENV) $(PEERS) $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
