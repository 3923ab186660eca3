# make demo    trains a VAEBM on the embedded digits, then shows its measurements and where its report is
# make test    checks style, types, the import rows, and runs all tests and docstring examples
# make tests   the last of these alone, for other versions: make tests PYTHON=python3.13 VENV=.venv-3.13, or
#              make tests VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt
# make clean   removes what the two have made, apart from runs/

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin

.PHONY: demo test tests clean

demo: $(VENV)/installed
	$(BIN)/vaebm train digits --out runs/digits

test: $(VENV)/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy benchmarks --no-warn-return-any --allow-untyped-calls --allow-subclassing-any --ignore-missing-imports
	$(BIN)/lint-imports
	$(MAKE) tests

tests: $(VENV)/installed-for-tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

$(VENV)/installed: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(BIN)/python -m pip install -c $(CONSTRAINTS) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
