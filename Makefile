# Everything is installed into a virtual environment, .venv; nothing else on the machine is touched.
# Another Python, another place:  make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
# A file that is newer than what was installed, so that a second `make install` does not even start Python.
INSTALLED := $(VENV)/.installed

# Some container images set it; every start would then compile torch's Python files again, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH

# A file's tests share what they have made, so a file is one worker's; in the order of conftest.py, the longest first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help install run test quick lint style types format site lock
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14

install: $(INSTALLED)  ## install what the lock file names, once

# The lock holds packages that the pins of older ones would refuse ([tool.uv] in pyproject.toml says which), so they are
# installed as listed, each checked against its hash, and uv does it in seconds where pip needs minutes.
$(INSTALLED): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + \
		sys.version.split()[0] + "; name one: make install PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@# torchattacks brings an older copy of robustbench, and the one that is installed last wins.
	@sed -n '/^robustbench==/,/# via/p' requirements.lock | $(BIN)/uv pip install --quiet --python $(BIN)/python \
		--no-deps --require-hashes --reinstall-package robustbench --requirement -
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

run: $(INSTALLED)  ## run the small built-in benchmark and print its table
	$(BIN)/bench run $(ARGS)
	$(BIN)/bench table

test: $(INSTALLED)  ## all tests; make test ARGS="tests/test_datasets.py -k cifar"
	$(PYTEST) $(ARGS)

quick: $(INSTALLED)  ## the tests that take no time
	$(PYTEST) -m "not slow" $(ARGS)

lint: style types  ## what must be clean before a commit

style: $(INSTALLED)  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)  ## mypy, strict
	$(BIN)/mypy

format: $(INSTALLED)  ## put the source into the one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

site: $(INSTALLED)  ## the pages of docs/ as a site, in ./site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lock: $(INSTALLED)  ## write requirements.lock after a change of pyproject.toml; ARGS=--upgrade for newer versions
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --generate-hashes --no-header \
		--output-file requirements.lock $(ARGS) pyproject.toml
