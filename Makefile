# make demo · make test · make check · make bench · make gpu · make weights · make wheelhouse · make clean
#
# Needs Python 3.11 or newer, make and a C compiler. WHEELHOUSE=folder installs offline, from
# what `make wheelhouse` gathered on a machine with a network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CODE := robustbench_med attacks certify reports
UV_VERSION := 0.13.9
NO_DEPS := torchattacks==3.5.1 auto-LiRPA==0.3
EXTRAS := onnx,dev
empty :=
comma := ,
LINKS := $(subst $(empty) ,$(comma),$(strip $(PIP_FIND_LINKS)))

ifdef WHEELHOUSE
PIP_FROM := --no-index --find-links $(WHEELHOUSE)
UV_FROM := --no-index --find-links $(WHEELHOUSE)
else
PIP_FROM :=
UV_FROM := $(if $(LINKS),--find-links $(LINKS))
endif

.PHONY: install weights demo test check check-all bench gpu wheelhouse clean

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt overrides.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FROM) uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python $(UV_FROM) --compile-bytecode \
		--overrides overrides.txt --constraints constraints.txt \
		-e ".[$(EXTRAS)]" $(NO_DEPS)
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/rbmed demo

# The networks that come with the package, trained from nothing where their plans lie.
weights: $(INSTALLED)
	for plan in reconstruction super_resolution segmentation classification; do \
		$(BIN)/rbmed train robustbench_med/demo/$$plan.toml || exit 1; done

# A process for each core, each on one thread: files of tests are what is shared out.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

check-all: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m "not gpu"

# -P, because one script is called as a module of Python's own library is.
bench: $(INSTALLED)
	for script in benchmarks/*.py; do $(BIN)/python -P $$script || exit 1; done

# The networks at the papers' sizes, trained and measured on the CUDA device of this machine.
gpu: $(INSTALLED)
	$(BIN)/python -P benchmarks/networks.py --full

# Exactly what is installed, as wheels, with what builds this package itself.
wheelhouse: $(INSTALLED)
	mkdir -p wheelhouse
	$(BIN)/uv pip freeze --quiet --python $(BIN)/python --exclude-editable > wheelhouse/requirements.txt
	$(BIN)/python -m pip download --quiet --no-deps --dest wheelhouse \
		-r wheelhouse/requirements.txt "setuptools>=77" wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir wheelhouse .

clean:
	rm -rf $(VENV) build dist wheelhouse .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
