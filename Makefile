# Everything here works on a fresh clone: the targets make the virtual environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
RUN ?= outputs/demo
JOBS ?= 2
IMAGES ?= photos
KILLS ?= 100
EXAMPLES ?= 1000
MINUTES ?= 120
SET_UP_FAILED = echo "make setup: the packages could not be installed (pip's reason is above). Installing takes about 9 GB:" \
	"here are $$(df -Ph . | awk 'NR==2{print $$4}') free, in $${TMPDIR:-/tmp} $$(df -Ph "$${TMPDIR:-/tmp}" | awk 'NR==2{print $$4}'). Then run it again." >&2

.PHONY: help setup train test test-slow test-browser test-slurm test-faults test-sweep-kills test-configurations soak \
	audit lint format bench bench-table bench-coding bench-evaluation first-light kodak-seeds experiments-tiny identities fuzz docs clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 22

setup: $(INSTALLED) ## make the virtual environment (.venv) from the pinned constraints

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]' || { $(SET_UP_FAILED); exit 1; }
	@touch $@

train: setup ## train, test and draw a small regularized codec on the embedded data (RUN=folder)
	$(BIN)/python -m regicomp.train experiment=demo hydra.run.dir=$(RUN) ckpt=last

test: setup ## the tests that CI runs
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slow and not slurm'

test-slow: setup ## every test, the ones that take minutes too
	$(BIN)/python -m pytest -n $(JOBS) -m 'not slurm'

test-browser: setup ## the report page in headless Chromium (installs Debian's chromium and chromium-driver, as root)
	command -v chromium chromedriver >/dev/null || { apt-get update -qq && apt-get install -y -qq chromium chromium-driver; }
	$(BIN)/python -m pytest -m browser

test-slurm: setup ## a sweep on a real Slurm of this machine (installs Debian's slurm-wlm and munge, as root)
	command -v slurmctld munged >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; }
	$(BIN)/python -m pytest -m slurm tests/slurm

test-faults: setup ## faults injected into tiny runs: kills, full disks, NaN; writes outputs/faults.md (KILLS=100)
	$(BIN)/python tests/faults/campaign.py --kills $(KILLS) --out outputs/faults.md

test-configurations: setup ## random configurations: each trains and evaluates or is refused (EXAMPLES=1000)
	REGICOMP_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest tests/faults/test_configurations.py -k many -s

test-sweep-kills: setup ## kill -9 of a tiny sweep at random moments, ten times, then one more start: the same report
	$(BIN)/python tests/faults/campaign.py --only sweep-kills --out outputs/sweep_kills.md

soak: setup ## train for MINUTES=120 and watch memory, speed and checkpoints
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES)

audit: setup ## known vulnerabilities of the pinned dependencies (asks pypi.org; fails where it cannot be asked)
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

lint: setup ## ruff (lint and format) and pyright
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup ## let ruff rewrite the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup ## time training steps, plain and regularized, in pairs against CompressAI's loop
	$(BIN)/python -m bench.train_step

bench-table: setup ## the five backbones against CompressAI's loop: time, memory, FLOPs, data loading (hours)
	$(BIN)/python -m bench.table --parts costs steps memory data scaling compile

bench-coding: setup ## time encoding and decoding at full size against CompressAI (needs $$REGICOMP_DATA/kodak)
	$(BIN)/python -m bench.coding

bench-evaluation: setup ## our evaluation against compressai.utils.eval_model on Kodak (CODEC=codec.safetensors of a hyperprior)
	$(BIN)/python -m bench.evaluation --workers $(JOBS) $(if $(CODEC),--codec $(CODEC))

first-light: setup ## the runs of experiments/first_light (needs $$REGICOMP_DATA; 80 minutes on 2 cores, both α at once)
	for alpha in 0 0.1; do \
		{ OMP_NUM_THREADS=1 $(BIN)/python -m regicomp.train experiment=first_light_start reg.alpha=$$alpha \
			hydra.run.dir=outputs/first_light/start_alpha$$alpha ckpt=last && \
		OMP_NUM_THREADS=1 $(BIN)/python -m regicomp.train experiment=first_light reg.alpha=$$alpha \
			init_from=outputs/first_light/start_alpha$$alpha/codec.safetensors \
			hydra.run.dir=outputs/first_light/alpha$$alpha ckpt=last || echo failed: alpha=$$alpha; } & \
	done; wait

kodak-seeds: first-light ## the reproduction of experiments/short_runs that fits a night of 2 cores: after first light, 45 runs and their report
	OMP_NUM_THREADS=1 $(BIN)/python -m regicomp.train experiment=families source=hyperprior \
		init_from=outputs/first_light/alpha0/codec.safetensors hydra.run.dir=outputs/families/hyperprior ckpt=last
	OMP_NUM_THREADS=1 $(BIN)/python -m regicomp.train -m experiment=kodak_seeds hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS)
	$(BIN)/python -m regicomp.report multirun/kodak_seeds --min-span 1 --images 2 --out outputs/kodak_seeds

TINY = OMP_NUM_THREADS=1 $(BIN)/python -m regicomp.train -m size=tiny hydra/launcher=joblib hydra.launcher.n_jobs=$(JOBS)
TINY_SWEEPS := kodak alpha generalization alignment

experiments-tiny: setup ## the tiny version of every experiment, and a report of them (needs $$REGICOMP_DATA, an hour)
	$(TINY) experiment=starting_codecs
	for name in $(TINY_SWEEPS); do $(TINY) experiment=$$name || exit; done
	$(TINY) experiment=families source=hyperprior,autoregressive,elic,mlicpp hydra.sweep.dir=multirun/families-tiny \
		init_from=multirun/starting_codecs-tiny/hyperprior/codec.safetensors
	$(BIN)/python -m experiments.families.tabulate multirun/families-tiny --out outputs/experiments-tiny/families
	$(BIN)/python -m regicomp.report $(TINY_SWEEPS:%=multirun/%-tiny) --images 1 --out outputs/experiments-tiny

fuzz: setup ## decode 20,000 damaged files, and 1,000 forged ones, and say what came of them
	$(BIN)/python tests/fuzz/mutations.py

identities: setup ## tables and figures of experiments/identities, minutes on 2 cores (CODEC= SOURCE= IMAGES= of a trained pair)
	$(BIN)/python -m experiments.identities --jobs $(JOBS) $(if $(CODEC),--codec $(CODEC) --source $(SOURCE)) --images $(IMAGES)

docs: setup ## the documentation as a site, outputs/docs/html: a warning or a broken link within fails it
	$(BIN)/python -m sphinx -q -W --keep-going -c docs -d outputs/docs/doctrees . outputs/docs/html
	$(BIN)/python docs/_ext/check_links.py outputs/docs/html

clean: ## remove the virtual environment and the caches (runs in outputs/ stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
