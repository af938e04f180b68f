# SPDX-License-Identifier: Apache-2.0
# bpf objects, the addon, TypeScript: each rebuilt only when what it is made of changed.
CLANG ?= clang-19
CLANG_FORMAT ?= clang-format-19
BPF_CFLAGS := -g -O2 -mcpu=v3 -target bpf -Wall -Wextra -Werror -Wno-unused-parameter -I/usr/include/$(shell uname -m)-linux-gnu
BPF_HEADERS := $(wildcard bpf/lib/*.h)
BPF_OBJECTS := $(patsubst bpf/%.c,build/bpf/%.bpf.o,$(wildcard bpf/*.c))
# For generic XDP, in one piece: see xdp_lb.c.
GENERIC_OBJECTS := build/bpf/xdp_lb_generic.bpf.o build/bpf/agent_generic.bpf.o
BENCH_OBJECTS := $(patsubst bench/bpf/%.c,build/bench/%.bpf.o,$(wildcard bench/bpf/*.c))
TS_SOURCES := $(shell find src test bench scripts -name '*.ts') tsconfig.json package.json

.PHONY: all bpf native ts abi docs format clean
all: bpf native ts

bpf: $(BPF_OBJECTS) $(GENERIC_OBJECTS) $(BENCH_OBJECTS)
build/bpf/%.bpf.o: bpf/%.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@
$(GENERIC_OBJECTS): build/bpf/%_generic.bpf.o: bpf/%.c $(BPF_HEADERS)
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -DXDP_SECTION='"xdp"' -c $< -o $@
build/bench/%.bpf.o: bench/bpf/%.c
	@mkdir -p $(@D)
	$(CLANG) $(BPF_CFLAGS) -c $< -o $@

-include native/native.mk
native: native/build/Release/fairlead.node

ts: dist/.built
dist/.built: $(TS_SOURCES)
	node_modules/.bin/tsc
	@touch $@

# Committed, and checked by the tests: run after a change of bpf/lib/types.h or maps.h.
# Types are not checked on the way: a changed layout may leave src/ wrong until this has run.
abi: bpf
	node_modules/.bin/tsc --noCheck
	node dist/scripts/abi.js build/bpf/xdp_lb.bpf.o abi ./codec.js > build/abi.gen.ts && mv build/abi.gen.ts src/dataplane/abi.gen.ts
	node dist/scripts/abi.js build/bpf/tc_nat.bpf.o abi ./codec.js nat_ > build/abi.gen.ts && mv build/abi.gen.ts src/dataplane/nat-abi.gen.ts
	node dist/scripts/abi.js build/bpf/tc_health.bpf.o abi ./codec.js health_ > build/abi.gen.ts && mv build/abi.gen.ts src/dataplane/health-abi.gen.ts
	node dist/scripts/abi.js build/bpf/agent.bpf.o abi ../dataplane/codec.js > build/abi.gen.ts && mkdir -p src/agent && mv build/abi.gen.ts src/agent/abi.gen.ts
	node dist/scripts/abi.js build/bench/wrapper.bpf.o abi ../src/dataplane/codec.js > build/abi.gen.ts && mv build/abi.gen.ts bench/wrapper.gen.ts
	node dist/scripts/abi.js build/bench/nat.bpf.o abi ../src/dataplane/codec.js > build/abi.gen.ts && mv build/abi.gen.ts bench/nat.gen.ts
docs: bpf
	node_modules/.bin/tsc --noCheck
	node dist/scripts/abi.js build/bpf/xdp_lb.bpf.o docs > build/maps.md && mv build/maps.md docs/maps.md

format:
	$(CLANG_FORMAT) -i bpf/*.c bpf/lib/*.h bench/*.c bench/bpf/*.c test/vm/*.c test/differ/*.c native/src/*.cc native/src/*.h
	node_modules/.bin/biome check --write .

clean:
	rm -rf build dist native/build
