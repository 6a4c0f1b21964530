# `make demo` and `make test` need Python 3.11 or newer and make, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: demo test lint clean

# Installed again when the list of dependencies changes.
$(VENV)/installed: setup.cfg pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(INSTALL) --constraint requirements.txt --editable '.[dev]'
	touch $@

# What the tests of the XManager launcher need besides.
$(VENV)/with_xmanager: $(VENV)/installed requirements-xmanager.txt
	$(INSTALL) --constraint requirements.txt --constraint requirements-xmanager.txt --editable '.[dev,xmanager]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python -m dissim_jax.main --config=configs/digits_expvar.py --workdir=runs/digits

test: $(VENV)/with_xmanager lint
	$(BIN)/python -m pytest -n 3 --dist loadfile

lint: $(VENV)/installed
	$(BIN)/ruff check .

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
