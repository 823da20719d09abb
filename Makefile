# Everything is installed into .venv from pyproject.toml + constraints.txt; the stamp is written last, so a killed
# set-up starts again from nothing and never leaves half an environment behind.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
export BEHOLDER_MODELS ?= $(CURDIR)/models
STORE ?= store

# Tests run side by side on so many cores; numerical libraries then keep to one thread each.
TESTERS ?= 2

.PHONY: setup demo test check dashboard slow validate seeds bench clean
.DELETE_ON_ERROR:

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -e $@ || rm -rf $(VENV)
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	$(BIN)/beholder models fetch embedded
	touch $@

demo: setup
	$(BIN)/python jobs/demo.py --plan jobs/studies/demo.yaml --store $(STORE)

dashboard: setup
	$(BIN)/streamlit run dashboards/app.py -- --store $(STORE)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: export OMP_NUM_THREADS = 1
test: export OPENBLAS_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: check
	$(BIN)/pytest -m "not slow" -n $(TESTERS) --dist loadgroup --no-loadscope-reorder --durations=15

slow: setup
	$(BIN)/pytest -m slow -s

validate: setup
	$(BIN)/python tests/validation/run.py --out docs/validation.md --replicates 1000

seeds: setup
	$(BIN)/python tests/validation/seeds.py --stores $(STORE)-seeds --out docs/seeds.md

bench: setup
	for file in tests/benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:
	rm -rf $(VENV) models $(STORE)
