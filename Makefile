# SPDX-License-Identifier: Apache-2.0

SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

NODE := node_modules/.bin/node
BUILD := build

# Recursive (=) on purpose: `deps` may install the compiler in the same run.
CLANG = $(firstword $(foreach c,clang-19 clang-14 clang,$(shell command -v $(c))))
STRIP = $(firstword $(foreach s,$(subst clang,llvm-strip,$(notdir $(CLANG))) llvm-strip,$(shell command -v $(s))))
BPF_ARCH = $(patsubst x86_64,x86,$(patsubst aarch64,arm64,$(shell uname -m)))
# A BPF target has no multiarch directory of its own: asm/ comes from the host's.
BPF_CFLAGS = -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -D__TARGET_ARCH_$(BPF_ARCH) \
	-Ibpf -idirafter /usr/include/$(shell uname -m)-linux-gnu

BPF_OBJECTS = $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c)) \
	$(patsubst test/bpf/%.bpf.c,$(BUILD)/test/%.bpf.o,$(wildcard test/bpf/*.bpf.c))

.DEFAULT_GOAL := help
.PHONY: help deps build objects bundle demo test test-vm bench monitoring screenshots install uninstall deb docs check format generate clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

deps: ## install what is missing: Debian or Ubuntu packages, npm packages
	@scripts/deps.sh

build: deps ## compile the BPF programs, bundle vnicctl; all into build/
	@$(MAKE) --no-print-directory objects bundle

demo: build ## run the product on its own rig; report in out/demo/report.json (KEEP=1 leaves it running)
	@$(NODE) test/rig/demo.ts

test: build ## run every test tier this machine can (TIER=unit|packets|netns|vm, TEST=path, GREP=title)
	@$(NODE) scripts/run-tests.ts

test-vm: build ## boot QEMU guests with a real 32-queue virtio_net and run the device tests in them (CPUS=8, KERNEL=path, MACHINE=, SUITE=)
	@scripts/vm/deps.sh
	@TIER=vm VNIC_VM=full $(NODE) scripts/run-tests.ts

bench: build ## run the benchmarks; results in out/bench/results.json (BENCH=name runs one, QUICK=1 the short form)
	@$(NODE) test/bench/main.ts $(BENCH)

monitoring: build ## Prometheus beside the daemon, with the shipped rules (PORT=9091)
	@$(NODE) scripts/monitoring.ts --serve

screenshots: build ## take the pictures of the live page and of vnicctl top anew, docs/pictures/*.png
	@$(NODE) test/rig/screenshots.ts

install: build ## into PREFIX (/usr/local), DESTDIR honoured: program, unit, man pages, completions
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" SYSCONFDIR="$(SYSCONFDIR)" scripts/packaging/install.sh install

uninstall: ## remove what install put there; detaches devices first
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" SYSCONFDIR="$(SYSCONFDIR)" scripts/packaging/install.sh uninstall

deb: build ## the Debian package, build/deb/vnicctl_VERSION_ARCH.deb
	@scripts/packaging/deb.sh

docs: build ## the documentation as pages for a browser, in out/docs/
	@$(NODE) scripts/build-docs.ts

check: build ## format, lint, types, import rules, licences, generated files, documentation, package, deploy/, compilers
	@$(MAKE) --no-print-directory --keep-going $(CHECKS)

format: deps ## rewrite the sources in the project's format
	@node_modules/.bin/biome check --write .

generate: build ## rewrite generated files: codecs from BTF, reference pages from the code
	@$(NODE) scripts/generate-codecs.ts
	@$(NODE) scripts/generate-docs.ts
	@$(NODE) scripts/dashboards/generate.ts

clean: ## remove what was built
	rm -rf $(BUILD) out

# --- BPF objects -------------------------------------------------------------

objects: $(BPF_OBJECTS)
	@:

# llvm-strip -g removes DWARF and keeps .BTF and .BTF.ext, which the loader reads.
define compile_bpf
@mkdir -p $(@D)
@echo "$(notdir $(CLANG)) $@"
@$(CLANG) $(BPF_CFLAGS) -MD -MP -MF $(@:.o=.d) -MT $@ -c $< -o $@.tmp
$(if $(STRIP),@$(STRIP) -g $@.tmp)
@mv $@.tmp $@
endef

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c Makefile
	$(compile_bpf)

$(BUILD)/test/%.bpf.o: test/bpf/%.bpf.c Makefile
	$(compile_bpf)

-include $(BPF_OBJECTS:.o=.d)

# --- the bundle of vnicctl and its daemon ------------------------------------------

BUNDLE := $(BUILD)/dist/cli/main.js

bundle: $(BUNDLE)
	@:

$(BUNDLE): $(shell find src -name '*.ts') package.json package-lock.json scripts/bundle.ts
	@echo "bundle $(BUILD)/dist"
	@$(NODE) scripts/bundle.ts $(BUILD)/dist

# --- checks, each on its own so that one run shows all failures ----------------

CHECKS := check-format check-lint check-types check-imports check-sources check-generated check-compilers check-docs check-packaging check-deploy
.PHONY: $(CHECKS)

check-format:
	@node_modules/.bin/biome check --error-on-warnings .

# The tests use a client that is made from the API's own document, as a user's would be.
client:
	@$(NODE) scripts/generate-client.ts
.PHONY: client

check-lint: client
	@node_modules/.bin/oxlint --type-aware --deny-warnings

check-types: client
	@node_modules/.bin/tsc --noEmit
	@node_modules/.bin/tsc --noEmit -p src/daemon/page

check-imports:
	@$(NODE) scripts/check-imports.ts

check-sources:
	@$(NODE) scripts/check-sources.ts

check-generated:
	@$(NODE) scripts/generate-codecs.ts --check
	@$(NODE) scripts/generate-docs.ts --check
	@$(NODE) scripts/dashboards/generate.ts --check

check-docs:
	@$(NODE) scripts/build-docs.ts --check

check-packaging:
	@scripts/check-packaging.sh

check-deploy:
	@$(NODE) scripts/check-deploy.ts
	@$(NODE) scripts/check-workflows.ts

check-compilers:
	@set -e; for compiler in clang-14 clang-19; do \
		if command -v $$compiler >/dev/null; then \
			$(MAKE) --no-print-directory objects CLANG=$$compiler BUILD=$(BUILD)/check/$$compiler; \
		else \
			echo "check-compilers: $$compiler is not installed, not checked"; \
		fi; \
	done
