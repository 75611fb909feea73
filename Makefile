# Livefeed: every target sets up what it needs; CI calls the same ones.
#   make help
.DEFAULT_GOAL := help
SHELL := /bin/bash
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
JAVA := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)
RUN := $(UV) run --frozen --no-sync
# A distribution builds its Python with profile-guided optimisation: a feed costs the proxy an eighth less CPU than with one
# that a version manager compiled as it comes. Where there is none uv takes what it finds; an environment that is there stays.
PYTHON311 := $(if $(wildcard .venv/bin/python),,$(firstword $(wildcard /usr/bin/python3.11 /usr/local/bin/python3.11)))
ifneq ($(PYTHON311),)
export UV_PYTHON ?= $(PYTHON311)
endif
export UV_LINK_MODE ?= hardlink
export PYTHONUNBUFFERED = 1
ROOMS := settings.py cli.py events features registry collector training serving monitoring release dagster_project dags stack simulator benchmarks

.PHONY: help java env env-all jars demo movielens up down test check bench soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

java:
	@v=$$($(JAVA) -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1); [ "$${v:-0}" -ge 17 ] || { \
	echo "livefeed: Kafka and Spark need Java 17 or newer (on PATH or in JAVA_HOME), found $${v:-none}; install one, for example: apt-get install openjdk-17-jre-headless" >&2; exit 1; }

.uv/bin/uv:
	@echo "livefeed: installing uv into .uv/"
	@python3 -m venv .uv && .uv/bin/pip install --quiet uv==0.13.8

env: java $(filter .uv/bin/uv,$(UV))
	@[ -d .venv ] || echo "livefeed: making the locked environment in .venv (a minute or two the first time)"
	@$(UV) sync --frozen --inexact --quiet

env-all: java $(filter .uv/bin/uv,$(UV))
	@[ -d .venv ] || echo "livefeed: making the locked environment in .venv (a minute or two the first time)"
	@$(UV) sync --frozen --inexact --quiet --all-groups

jars: env
	@$(RUN) livefeed stack jars

demo: jars ## the whole loop on a simulated world, with a viewer's feed at the end
	@$(RUN) livefeed demo

movielens: jars ## the same loop on MovieLens-100K: make movielens DATA=../shared/data/ml-100k
	@$(RUN) livefeed demo --dataset movielens --path $(or $(DATA),../shared/data/ml-100k)

up: jars ## start every part and leave it running; prints where to look
	@$(RUN) livefeed stack up

down: env ## stop every part; nothing is lost
	@$(RUN) livefeed stack down

test: env-all jars ## the whole test suite, on the real parts
	@$(RUN) pytest $(ARGS)

check: env-all ## ruff, mypy --strict, import-linter
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy --strict $(ROOMS)
	$(RUN) lint-imports

bench: jars ## every benchmark, one JSON line each, and benchmarks/report.html
	@$(RUN) livefeed bench --all

soak: jars ## kill -9 of collector, Redis and broker, twenty times each: ten minutes, one JSON line
	@$(RUN) python -m benchmarks.faults $(ARGS)

clean: ## remove the environment and all state under var/ (stop the parts first)
	rm -rf .venv .uv var
