# Everything here works on a fresh clone with Python >= 3.11, make and a C++ compiler.
.PHONY: install demo test test-fast lint clean
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

demo: install          ## train a teacher, distil students, print the table
	$(BIN)/python scripts/demo_nmt.py

test: install lint     ## all tests
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m pytest

test-fast: install     ## the tests that take no time
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python -m pytest -m "not slow"

lint: install          ## style
	$(BIN)/ruff check
	$(BIN)/ruff format --check

install: $(INSTALLED)  ## everything into .venv

# fairseq is built from source. pip would fetch a second torch into its build environment, so torch comes first and the
# build uses it. $(VENV)/unfinished marks an install that was interrupted: what it left cannot be trusted.
$(INSTALLED): setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "make: $(PYTHON) is older than Python 3.11; name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@if [ -e $(VENV)/unfinished ]; then echo "the last install was not finished, starting it anew"; rm -rf $(VENV); fi
	@mkdir -p $(VENV) && rm -f $@ && touch $(VENV)/unfinished
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q "pip>=25" "setuptools>=77" wheel cython numpy torch torchvision
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-build-isolation -e '.[all,dev]'
	$(BIN)/python -m pip check
	$(BIN)/python -c 'import torch, torchvision, timm, sacrebleu, sentencepiece, lskd, lskd_vision, lskd_fairseq' 2>/dev/null
	@rm $(VENV)/unfinished && touch $@

clean:                 ## the environment and what the demo made
	rm -rf $(VENV) runs data-bin build *.egg-info
