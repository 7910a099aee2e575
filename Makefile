# Everything here works on a fresh clone with Python >= 3.11, make and a C++ compiler.
.PHONY: install demo test test-fast coverage torture fuzz gpu-check lint audit docs results-check clean
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/installed
# The tests of a file run in one process, so their shared fixtures are made once. Bytecode is kept: hundreds of tests
# start programs, which would compile the packages each time.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest \
	-n logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder

demo: install          ## train teachers, distil students, measure: images, then translation; then write a report
	$(BIN)/python scripts/demo_vision.py
	$(BIN)/python scripts/demo_nmt.py
	$(BIN)/lskd report runs/demo --sets runs/demo/*/sets.json --output runs/demo/report.html

test: install lint     ## run lint and all tests
	$(PYTEST) --durations 40

coverage: install      ## run all tests and list the lines that none has run; takes a third longer than the tests alone
	$(PYTEST) --cov

test-fast: install     ## run the quick tests
	$(PYTEST) -m "not slow"

torture: install       ## kill trainings, caches and experiments at random moments; takes an hour, writes docs/torture.csv
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONPATH=.:scripts:data_prep:tests \
		$(BIN)/python tests/torture/kill_at_random.py --output docs/torture.csv

fuzz: install          ## give every reader thousands of damaged files; prints the smallest one that fails
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} LSKD_FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest tests/fuzz

gpu-check:             ## check on a GPU what has only been run on a CPU, in 8 minutes; installs nothing, writes docs/benchmarks/gpu_*
	PYTHONPATH=. $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) scripts/gpu_check.py $(OPTIONS)

results-check: install ## recompute every number that comes from the committed results
	$(BIN)/python scripts/evidence.py --check
	$(BIN)/python scripts/study_tests.py --check
	$(BIN)/python scripts/evidence_page.py --check

audit: install         ## check installed packages for known vulnerabilities and for licences
	$(BIN)/python scripts/audit.py

docs: install          ## write the site to build/site; open build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: install          ## check style, types, spelling and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports
	$(BIN)/codespell

install: $(INSTALLED)  ## install everything into .venv

# fairseq is built from source. pip would download a second torch into its build environment, so torch is installed first
# and used for the build. $(VENV)/unfinished marks an interrupted install: what it left is removed, the marker last, in
# case the removal is interrupted too. An existing environment is updated and keeps its Python, so that two versions never
# mix: run `make clean` before choosing another one.
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

clean:                 ## remove the environment and what the demo made
	rm -rf $(VENV) runs data-bin build *.egg-info
