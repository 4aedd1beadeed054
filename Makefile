# Everything runs in .venv, which is made from requirements.lock when it is missing or older than the lock.
# With nothing but Python >= 3.11 and make:  make demo   make test
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
BUNDLE ?= all
BUNDLES := $(notdir $(patsubst %/configs/metadata.json,%,$(wildcard bundles/*/configs/metadata.json)))
DEMO_DIR ?= demo_output
# Another demonstration of one bundle, for example: make demo BUNDLE=umamba_seg RECIPE=interactive
RECIPE ?=

# glibc returns every large tensor to the system and faults it in again; keeping the memory is up to twice as fast on
# CPU. Threads that wait asleep, not spinning, leave a shared machine to others.
export MALLOC_MMAP_MAX_ ?= 0
export MALLOC_TRIM_THRESHOLD_ ?= 68719476736
export MALLOC_TOP_PAD_ ?= 67108864
export OMP_WAIT_POLICY ?= passive
export MPLBACKEND ?= Agg
export PYTHONUTF8 ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true

.PHONY: setup demo test lint bench bundles clean

setup: $(VENV)/installed

$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
ifeq ($(BUNDLE),all)
	@set -e; for bundle in $(BUNDLES); do $(MAKE) --no-print-directory demo BUNDLE=$$bundle; done
else
	@$(PY) -m custom_apps demo $(BUNDLE) --output $(DEMO_DIR)/$(BUNDLE)$(RECIPE:%=_%) $(RECIPE:%=--recipe %)
endif

# Files of tests go to as many processes as there are cores, each with one thread: most of the time goes into short runs
# of bundles, which keep one core busy.
test: $(VENV)/triton
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n auto --maxprocesses 8 --dist loadfile

# The kernels for GPUs are tested without one, by Triton's interpreter and compiler. Where there is no Triton, those
# tests are skipped and say so.
$(VENV)/triton: requirements-triton.lock $(VENV)/installed
	case "$$(uname -sm)" in "Linux x86_64") \
	$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements-triton.lock \
	|| echo "triton could not be installed: tests of its kernels will be skipped" ;; esac
	touch $@

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

bench: setup
	$(PY) -m benchmarks

bundles: setup
	$(PY) -m custom_apps pack all --output dist

clean:
	rm -rf $(VENV) $(DEMO_DIR) build dist *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	rm -rf bundles/*/models bundles/*/eval bundles/*/prepared
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
