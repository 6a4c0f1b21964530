# `make demo` and `make test` need make and Python: the newest from 3.11 to 3.14 that is on PATH or
# was installed by pyenv or uv, unless PYTHON=3.12 or PYTHON=/path/to/python chooses one.
PYTHON ?=
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python

# Every program of a test would compile all of JAX's modules again, which takes longer than the test.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test smoke lint clean versions

# Installed again when the list of dependencies changes, or another Python is chosen.
ifneq ($(PYTHON),)
chosen := $(shell { "$$(.ci/find_python '$(PYTHON)')" -V; } 2> /dev/null)
ifneq ($(chosen),$(shell { $(BIN)/python -V; } 2> /dev/null))
.PHONY: $(VENV)/installed
endif
endif

$(VENV)/installed: setup.cfg pyproject.toml requirements.txt
	@python=$$(.ci/find_python '$(PYTHON)') && \
	  echo "Installing into $(VENV) with $$python" && \
	  "$$python" -m venv $(if $(wildcard $(VENV)/pyvenv.cfg),--clear) $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(INSTALL) --constraint requirements.txt --editable '.[dev]'
	touch $@

# What the tests of the XManager launcher need besides.
$(VENV)/with_xmanager: $(VENV)/installed requirements-xmanager.txt
	$(INSTALL) --constraint requirements-xmanager.txt --editable '.[dev,xmanager]'
	touch $@

versions: $(VENV)/installed
	@$(BIN)/python -c 'import importlib.metadata as of, platform; print("Python", \
	  platform.python_version(), "with", *(f"{name} {of.version(name)}" for name in ("jax", "flax")))'

demo: versions
	$(BIN)/python -m dissim_jax.main --config=configs/digits_expvar.py --workdir=runs/digits $(DEMO_ARGS)

test: versions $(VENV)/with_xmanager lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# A minute of tests, of what differs between versions of JAX.
smoke: versions
	$(BIN)/python -m pytest -n 2 --dist loadfile \
	  tests/train/test_mapped_step.py tests/models/test_lowering.py tests/metrics/test_metrics_definitions.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ty check --quiet --python $(VENV)

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
