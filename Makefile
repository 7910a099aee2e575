# Everything here works on a fresh clone with Python >= 3.11, make and a C++ compiler.
.PHONY: install demo test test-fast torture fuzz lint audit clean
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/installed

demo: install          ## train teachers, distil students, measure: images, then translation; ends with a report
	$(BIN)/python scripts/demo_vision.py
	$(BIN)/python scripts/demo_nmt.py
	$(BIN)/lskd report runs/demo --sets runs/demo/*/sets.json --output runs/demo/report.html

# A file's tests stay together, what they share is made once. The slow files come first by name, and quick ones fill up.
test: install lint     ## all tests, and which lines they run
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest --cov \
		-n logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder

test-fast: install     ## the tests that take no time
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -m "not slow"

torture: install       ## kill trainings, caches and experiments at random moments; an hour; figures in docs/torture.csv
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONPATH=.:scripts:data_prep:tests \
		$(BIN)/python tests/torture/kill_at_random.py --output docs/torture.csv

fuzz: install          ## thousands of damaged files for every reader; the smallest that one trips over is printed
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} LSKD_FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest tests/fuzz

audit: install         ## known vulnerabilities and licences of what is installed
	$(BIN)/python scripts/audit.py

lint: install          ## style, types, spelling, and which module may import which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/codespell

install: $(INSTALLED)  ## everything into .venv

# fairseq is built from source. pip would fetch a second torch into its build environment, so torch comes first and the
# build uses it. $(VENV)/unfinished marks an install that was interrupted: what it left cannot be trusted and goes, the
# mark last, in case that is interrupted too. An environment that is there is updated and keeps its Python, so that two
# never mix: `make clean` before choosing another one.
$(INSTALLED): setup.py pyproject.toml
	@if [ -e $(VENV)/unfinished ]; then echo "the last install was not finished, starting it anew"; \
		find $(VENV) -mindepth 1 -maxdepth 1 ! -name unfinished -exec rm -rf {} +; fi
	@[ -x $(BIN)/python ] || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: $(PYTHON) is not Python 3.11 or newer; name another one:" \
			"$(strip make PYTHON=python3.12 $(MAKECMDGOALS))" >&2; exit 2; }
	@mkdir -p $(VENV) && rm -f $@ && touch $(VENV)/unfinished
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q "pip>=25" "setuptools>=77" wheel cython numpy torch torchvision
	$(PIP) install -q --no-build-isolation -e '.[all,dev]'
	$(PIP) check
	@$(BIN)/python -W ignore -c 'import logging; logging.disable(); \
		import torch, torchvision, timm, sacrebleu, sentencepiece, sklearn, matplotlib, lskd, lskd_vision, lskd_fairseq'
	@rm $(VENV)/unfinished && touch $@

clean:                 ## the environment and what the demo made
	rm -rf $(VENV) runs data-bin build *.egg-info
