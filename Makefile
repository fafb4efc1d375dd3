# Every target makes the environment it needs: nothing but Python >= 3.11 and make is expected.
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu   takes a PyTorch without CUDA
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
OUT ?= out
WHEELS ?=

BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	--constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.PHONY: help setup demo lab site build bench gpu test lint types unit notebooks clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.runs  ## make .venv with the pinned versions (done by the other targets where needed)

demo: $(VENV)/.runs  ## train on real digits for a minute, sample, measure: out/demo/
	$(BIN)/python -m diffusion_lessons.makers.demo --out $(OUT)/demo

lab: $(VENV)/.lab  ## open the lessons in JupyterLab; your copies are in work/
	$(BIN)/diffusion-lessons lab work

site: $(VENV)/.site  ## the lessons, the answers and the quizzes as a site that needs no network: out/site/index.html
	$(BIN)/python -m diffusion_lessons.course.site.build --out $(OUT)/site

build: $(VENV)/.tests  ## make the notebooks from solutions/*.py
	$(BIN)/python -m diffusion_lessons.course.authoring.build

bench: $(VENV)/.tests  ## time training, sampling, prompts and memory side by side with diffusers, ONNX with PyTorch (half an hour)
	$(BIN)/python -m tests.benchmarks.run

gpu:  ## 9 minutes on an NVIDIA GPU, by the PYTHON that has CUDA: its tests, benchmarks, long trainings
	$(PYTHON) -m tests.benchmarks.gpu --out $(OUT)/gpu $(if $(WHEELS),--wheels $(WHEELS))

test: lint types unit notebooks  ## lint, types and all tests

lint: $(VENV)/.tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.tests
	$(BIN)/mypy

unit: $(VENV)/.tests
	$(PYTEST)

notebooks: $(VENV)/.tests
	$(BIN)/python -m diffusion_lessons.course.authoring.rerun

clean:  ## remove .venv and out/
	rm -rf $(VENV) $(OUT)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: Python >= 3.11 is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); name another: make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }

$(VENV)/.runs: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the pinned versions into $(VENV) (a minute or two, once)"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.lab: $(VENV)/.runs
	@echo "installing JupyterLab into $(VENV)"
	@$(INSTALL) --editable '.[lab]'
	@touch $@

$(VENV)/.site: $(VENV)/.runs
	@echo "installing Sphinx into $(VENV)"
	@$(INSTALL) --editable '.[site]'
	@touch $@

$(VENV)/.tests: $(VENV)/.runs
	@echo "installing the test tools into $(VENV)"
	@$(INSTALL) --editable '.[test]'
	@$(INSTALL) --no-deps open_clip_torch  # for its file of CLIP's merges alone
	@$(INSTALL) --no-deps torchmetrics lightning_utilities  # with the PyTorch that is there
	@$(INSTALL) --no-deps --upgrade --target $(VENV)/peers torch_fidelity  # apart: it holds a package "tests", too
	@touch $@
