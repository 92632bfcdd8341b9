# make demo   the whole way on embedded data        make test   the test suite        make lint   style
# make gpu    on a machine with a GPU: the tests that need one, and the benchmark, whose figures go to JSON=DIR
#
# Each makes .venv and installs what is missing. VENV=DIR uses another environment, PYTHON=python3.12 another
# interpreter for a new one; VENV= (empty) uses PYTHON as it is and installs nothing.
PYTHON ?= python3
VENV ?= .venv
JSON ?= docs/measurements

ifeq ($(strip $(VENV)),)
RUN := $(PYTHON)
else
RUN := $(abspath $(VENV))/bin/python
RUN_DEPS := $(VENV)/.furnace-run
DEV_DEPS := $(VENV)/.furnace-dev
endif

.PHONY: demo test lint gpu

demo: $(RUN_DEPS)
	$(RUN) -m furnace.datasets.scenes DATA/demo
	cd exp_demo && $(RUN) train.py -c auto
	cd exp_demo && $(RUN) train.py -c auto method=supervised log_dir=log/supervised
	cd exp_demo && $(RUN) eval.py -e last -s
	cd exp_demo && $(RUN) eval.py -e last -s log_dir=log/supervised
	$(RUN) -m furnace.tools.compare exp_demo/log/supervised/val_last.json exp_demo/log/val_last.json -o exp_demo/log/comparison.md
	@echo "data: DATA/demo   logs, checkpoints, pictures: exp_demo/log (CPCL), exp_demo/log/supervised"

test: $(DEV_DEPS)
	$(RUN) -m pytest

lint: $(DEV_DEPS)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

gpu: $(DEV_DEPS)
	@$(RUN) -m pytest -m gpu; tested=$$?; $(RUN) -m furnace.tools.benchmark --device cuda:0 --json $(JSON) && exit $$tested

$(VENV)/.furnace-run: requirements.txt | $(RUN)
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.furnace-dev: requirements-dev.txt requirements-export.txt requirements.txt | $(RUN)
	$(RUN) -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@

ifneq ($(strip $(VENV)),)
$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "error: $(PYTHON) is older than Python 3.10; name another one: make PYTHON=python3.12 …"; exit 2; }
	$(PYTHON) -m venv $(VENV)
endif
