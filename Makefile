# Everything that is built goes into $(BUILD). Each of these can be set on the command line: make test PYTHON=python3.12
BUILD ?= .build
PYTHON ?= python3
VLLM_VERSION ?= 0.32.0
PYTEST_ARGS ?=
REPEAT ?= 200
WORKERS ?= 8
MINUTES ?= 20

OUT := $(abspath $(BUILD))
VENV := $(OUT)/venv
VLLM := $(OUT)/vllm-$(VLLM_VERSION)
MODELS := $(OUT)/models/made
ARCHITECTURES := $(OUT)/models/architectures
PYTEST := $(VENV)/bin/pytest
# tests/real is left out before it is collected: each worker would import what only those tests need.
SIDE_BY_SIDE := $(PYTEST) --ignore tests/real --numprocesses $(WORKERS) --dist worksteal

# Where the tests and the demo find the real vLLM and its models.
export REAL_VLLM := $(VLLM).json
export REAL_MODELS := $(OUT)/models
export REAL_HF_HOME := $(OUT)/hf
# The tests start hundreds of Python programs, and compiling our files anew in each of them would take a third longer.
unexport PYTHONDONTWRITEBYTECODE

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-no-vllm test-vllm test-python test-release test-faults soak count breakages repeat-supervisor bench terminal schemas lint format venv vllm models clean clean-all

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: venv vllm $(MODELS) ## The main job, shown on a real vLLM with a tiny model
	@$(VENV)/bin/python tools/demo.py --build $(OUT) --vllm $(REAL_VLLM)

test: venv vllm models ## Every test; those that use a real vLLM or measure time run one after the other
	@status=0; \
	$(SIDE_BY_SIDE) -m "not vllm and not measured" --junitxml=$(OUT)/reports/fast.xml $(PYTEST_ARGS) || status=$$?; \
	$(PYTEST) -m "vllm or measured" --junitxml=$(OUT)/reports/alone.xml $(PYTEST_ARGS) || status=$$?; \
	exit $$status

test-fast: venv ## The quick tests that need no vLLM, WORKERS=8 at a time, because they mostly wait
	@$(SIDE_BY_SIDE) -m "not vllm and not measured and not slow" $(PYTEST_ARGS)

test-no-vllm: venv ## All tests that need no vLLM
	@$(SIDE_BY_SIDE) -m "not vllm" $(PYTEST_ARGS)

test-vllm: venv ## The tests on a real vLLM of another version: make test-vllm VERSION=0.30.0
	@test -n "$(VERSION)" || { echo "which version? make test-vllm VERSION=0.30.0" >&2; exit 2; }
	@$(MAKE) models VLLM_VERSION=$(VERSION) EXACT=--exact
	@REAL_VLLM=$(OUT)/vllm-$(VERSION).json $(PYTEST) -m vllm --junitxml=$(OUT)/reports/vllm-$(VERSION).xml $(PYTEST_ARGS)

test-python: ## The tests that need no vLLM on another Python: make test-python VERSION=3.12
	@test -n "$(VERSION)" || { echo "which version? make test-python VERSION=3.12" >&2; exit 2; }
	@$(MAKE) test-no-vllm BUILD=$(OUT)/python-$(VERSION) \
		PYTHON=$(firstword $(wildcard $(HOME)/.pyenv/versions/$(VERSION)*/bin/python3) python$(VERSION))

test-release: venv ## Builds sdist and wheel, and runs the tests that need no vLLM from the sdist on the installed wheel
	@rm -rf $(OUT)/dist $(OUT)/release && mkdir -p $(OUT)/release
	@$(VENV)/bin/python -m build --outdir $(OUT)/dist . >$(OUT)/dist.log || { tail -20 $(OUT)/dist.log >&2; exit 1; }
	@tar -xzf $(OUT)/dist/*.tar.gz -C $(OUT)/release --strip-components=1
	@$(PYTHON) -m venv $(OUT)/release/.venv
	@$(OUT)/release/.venv/bin/pip -q --disable-pip-version-check install "$$(echo $(OUT)/dist/*.whl)[test,docs]"
	@$(OUT)/release/.venv/bin/python -I -c 'import acode_vllm; assert "site-packages" in acode_vllm.__file__'
	@cd $(OUT)/release && env -u PYTHONPATH .venv/bin/pytest -m "not vllm" \
		--numprocesses $(WORKERS) --dist worksteal --junitxml=$(OUT)/reports/release.xml $(PYTEST_ARGS)

test-faults: venv vllm models ## Sudden deaths, twenty times each: of an owner among fifty programs or with a leash, of our threads, of a start
	@FAULT_PROGRAMS=50 FAULT_REPEAT=20 $(PYTEST) tests/control/test_many_programs.py tests/faults tests/warm tests/real/test_faults.py tests/real/test_warm_starts.py $(PYTEST_ARGS)

soak: venv ## Random faults every few seconds on the stand-in server, with a report: MINUTES=20, SEED=N
	@$(VENV)/bin/python tests/faults/soak.py --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

count: venv vllm models ## Recoveries and loads, counted: sixty of each, and on a real vLLM six recoveries and a dozen architectures
	@COUNT_RECOVERIES=60 COUNT_LOADS=60 $(PYTEST) -s tests/faults/test_counted.py $(PYTEST_ARGS)
	@COUNT_ARCHITECTURES="$$(ls -d $(ARCHITECTURES)/*/ | xargs -n 1 basename | tr '\n' ' ')" $(PYTEST) -v tests/real/test_hub_models.py $(PYTEST_ARGS)
	@$(PYTEST) -s tests/real/count_recoveries.py $(PYTEST_ARGS)

breakages: venv vllm models ## Breaks each requirement on purpose and reports whether its tests notice: ID=FR-020, ARGS=--fast
	@$(VENV)/bin/python tools/breakages.py --home $(OUT)/breakages $(addprefix --id ,$(ID)) $(ARGS)

repeat-supervisor: venv ## The supervisor's tests, repeated with the fastest thread switching: REPEAT=200
	@$(VENV)/bin/python tests/supervisor/repeat.py --runs $(REPEAT)

bench: venv ## What this program costs compared with the alternatives, into docs/benchmarks.md: ROW=ask_command, QUICK=1
	@$(VENV)/bin/python -m benchmarks --build $(OUT) $(addprefix --row ,$(ROW)) $(if $(QUICK),--quick)

terminal: venv vllm models ## What the commands print, recorded in tmux, into docs/terminal.md
	@$(VENV)/bin/python tools/record_terminal.py --build $(OUT) --vllm $(REAL_VLLM) docs/terminal.md

docs: venv ## The documentation as HTML, in .build/docs/html; a warning is an error
	@$(VENV)/bin/python -m sphinx -W --keep-going -q -b html -d $(OUT)/docs/trees docs $(OUT)/docs/html
	@echo "$(OUT)/docs/html/index.html"

lint: venv ## ruff and mypy --strict
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/mypy tools

schemas: venv ## docs/schemas, from the classes that --json prints
	@$(VENV)/bin/python tools/make_schemas.py docs/schemas

format: venv ## Formats the code as lint wants it
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

venv: ## The project's own virtual environment
	@$(PYTHON) tools/setup_venv.py $(VENV)

vllm: ## The vLLM on PATH if it works, else one in an environment of its own (CPU build without an NVIDIA GPU)
	@$(PYTHON) tools/setup_vllm.py --home $(VLLM) --version $(VLLM_VERSION) $(EXACT)

models: $(MODELS) $(ARCHITECTURES)/made ## The tiny chat models, in a Hugging Face cache of their own, and one of each of many architectures

$(MODELS): tools/make_models.py tools/hub_cache.py | vllm
	@echo "making the tiny models"
	@"$$(sed -n 's/.*"python": "\(.*\)".*/\1/p' $(REAL_VLLM))" tools/make_models.py --models $(REAL_MODELS) --hub $(REAL_HF_HOME)/hub
	@touch $@

$(ARCHITECTURES)/made: tools/make_architectures.py $(MODELS)
	@"$$(sed -n 's/.*"python": "\(.*\)".*/\1/p' $(REAL_VLLM))" tools/make_architectures.py --tokenizer $(OUT)/models/tiny-hello --models $(ARCHITECTURES)
	@touch $@

clean: ## Removes what was built; vLLM's environment stays
	@rm -rf $(OUT)/venv $(OUT)/venv.* $(OUT)/models $(OUT)/hf $(OUT)/demo $(OUT)/reports $(OUT)/cache $(OUT)/docs $(OUT)/dist $(OUT)/release $(OUT)/breakages

clean-all: ## Removes everything that was built
	@rm -rf $(OUT)
