# Every command of this repository has its one place here; `make` alone lists them.
# PYTHON=python3.12 picks the interpreter of a new .venv; ARGS="..." is handed to the command a target runs.

PYTHON ?=
ARGS ?=
# Most tests wait for real processes: two files at a time halve the suite. JOBS=0 for one after the other.
JOBS ?= 2
RUN := .venv/bin
STAMP := .venv/.from-lock
# Everything below runs from the locked environment and nothing else.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo up test lint fix types services images lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 18

demo: $(STAMP) ## start a node, push two functions, call them, stop; under a minute, leaves nothing behind
	@$(RUN)/python -m scripts.demo $(ARGS)

up: $(STAMP) ## keep a node in the foreground (ARGS="--listen 127.0.0.1:9000")
	@$(RUN)/faas up $(ARGS)

test: services $(STAMP) images ## set up what the tests need and run all of them (ARGS="tests/unit -k name")
	@$(RUN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(STAMP) ## ruff: rules and formatting
	@$(RUN)/ruff check .
	@$(RUN)/ruff format --check .

fix: $(STAMP) ## let ruff repair what it can
	@$(RUN)/ruff check --fix .
	@$(RUN)/ruff format .

types: $(STAMP) ## mypy --strict
	@$(RUN)/mypy --strict --explicit-package-bases faas tests scripts $(if $(wildcard benchmarks/*.py),benchmarks)

services: ## as root on Debian or Ubuntu: install and start the engine and servers that tests use
	@scripts/setup-services.sh

images: $(STAMP) ## build the runtime images, if a Docker engine answers
	@$(RUN)/python -m scripts.images

lock: $(RUN)/uv ## write requirements.lock anew from pyproject.toml (ARGS=--upgrade for newer releases)
	@scripts/lock.sh $(ARGS)

clean: ## remove caches and build output; .venv stays (rm -r .venv for a fresh one)
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name .venv -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

$(RUN)/uv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml scripts/venv.sh
	@scripts/venv.sh $(PYTHON)
	@touch $@
