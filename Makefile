# Umbra: `make demo` shows it, `make test` guards it. Both install what is missing first.
SWIFT ?= swift

.PHONY: demo test soak build install-tools unit end-to-end tsan fuzz simulate gates clean help

help:
	@echo "make demo [ONCE=1]   build, then show what mirroring costs on this machine"
	@echo "make test            everything that guards the project"
	@echo "make unit | end-to-end | tsan | fuzz | gates   parts of it"
	@echo "make soak [SOAK_SECONDS=600]   ten minutes under load with faults: memory, descriptors, threads, counts"
	@echo "make build           release build: .build/release/umbra"

install-tools:
	@scripts/install-tools build

build: install-tools
	$(SWIFT) build -c release --product umbra

demo: build
	.build/release/umbra demo $(if $(ONCE),--once)

test:
	@scripts/install-tools build test
	scripts/test all

unit end-to-end tsan fuzz simulate gates:
	@scripts/install-tools build test
	scripts/test $@

SOAK_SECONDS ?= 600
soak:
	@scripts/install-tools build test
	$(SWIFT) build -c release --product umbra
	$(SWIFT) build -c release --product load
	SOAK_SECONDS=$(SOAK_SECONDS) Tests/EndToEndTests/run test_soak.py -s

clean:
	$(SWIFT) package clean
