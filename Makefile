# genclass: `make reproduce` runs the miniature, `make reproduce CONFIG=config.yaml` the paper.

CONFIG ?= config/miniature.yaml
PYTHON ?= python3
PROFILE ?=
OFFLINE ?=
SHARE ?= 1
HOURS ?=
GPU =
# What is empty is refused: it would mean the miniature, or of `rehearsal=` the real thing.
CONFIGS = $(or $(addprefix --config ,$(CONFIG)),$(error CONFIG is empty: the paper is CONFIG=config.yaml))
SHARES = $(and $(filter 1,$(words $(SHARE))),$(filter 0% 1% .%,$(SHARE)))
BIN := .venv/bin
# Bars in a terminal, plain lines in pipes and logs.
BARS = $$(test -t 1 && echo --logger rich)
# $(call run,SETTINGS,TARGET): Snakemake; what failed in a line each.
run = $(BIN)/snakemake --configfile $(CONFIG) $(if $(PROFILE),--profile profiles/$(PROFILE)) \
	$(if $(1),--config $(1)) $(BARS) -- $(2) || { code=$$?; $(BIN)/genclass failures $(CONFIGS); exit $$code; }
# $(call stages,SETTINGS,OPTIONS): a run of hours, of which each part decides over the next; 3: done.
stages = while true; do \
	$(BIN)/genclass budget $(CONFIGS) $(addprefix --hours ,$(HOURS)) $(addprefix --gpu ,$(GPU)) $(2); \
	code=$$?; if [ $$code -eq 3 ]; then break; elif [ $$code -ne 0 ]; then exit $$code; fi; \
	$(call run,$(1),measured); done

.DEFAULT_GOAL := help
.PHONY: help setup reproduce report plan calibrate bench rehearsal test test-full check format lock clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/ready ## The virtual environment .venv, with pinned dependencies

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# First genclass reads the config: what is wrong with it is one line, of Snakemake a traceback.
SETTINGS = $(strip $(addprefix hours=,$(HOURS)) $(if $(filter-out 0 false,$(OFFLINE)),offline=true))
reproduce: setup ## CONFIG up to the report; HOURS=8 of a GPU of it, PROFILE=slurm on a cluster, OFFLINE=1
	@$(BIN)/genclass models $(CONFIGS) > /dev/null
	@$(call stages,$(SETTINGS))
	$(call run,$(SETTINGS))
	@$(BIN)/genclass show $(CONFIGS)

report: setup ## The page of what CONFIG has so far, also while it runs: RESULTS/so-far/report/report.html
	@$(BIN)/genclass report $(CONFIGS)

plan: setup ## What CONFIG would take, or what HOURS=8 would decide; GPU=A100: on one that is not here
	@$(BIN)/genclass plan $(CONFIGS) $(addprefix --gpu ,$(GPU)) $(addprefix --hours ,$(HOURS))

calibrate: setup ## Measure this machine for the plan of CONFIG
	$(BIN)/genclass calibrate $(CONFIGS)

bench: setup ## Scoring against this machine's matrix rate, and the plain way to do it
	$(BIN)/genclass bench

rehearsal: CONFIG = config.yaml
rehearsal: REHEARSED = $(or $(SHARES),$(error SHARE is '$(SHARE)': a number over 0, up to 1))
rehearsal: SETTINGS = $(strip $(addprefix hours=,$(HOURS)) rehearsal=$(REHEARSED))
rehearsal: setup ## config.yaml with made-up scores: HOURS=8 of it, or all of it at SHARE (0..1) of its size
	@$(call stages,$(SETTINGS),--rehearsal $(REHEARSED))
	$(call run,$(SETTINGS))

test: setup check ## Formatting, linting, types, and the tests
	$(BIN)/pytest -n 2

test-full: setup ## The full-size networks too: minutes and gigabytes
	$(BIN)/pytest -m full

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/snakemake --lint

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/snakefmt Snakefile rules

lock: setup ## Pin again what pyproject.toml asks for
	$(BIN)/python -m pip install --quiet pip-tools
	printf 'torch==2.13.0\n' > .venv/torch.in
	$(BIN)/pip-compile --quiet --extra dev --strip-extras --no-annotate --no-header --no-emit-index-url \
		--no-emit-find-links --allow-unsafe --output-file requirements.lock pyproject.toml .venv/torch.in
	sed -i 's/^\(torch==[0-9.]*\)+cpu$$/\1/' requirements.lock

clean: ## Remove the results of CONFIG's miniature, not the downloads
	rm -rf results/miniature
