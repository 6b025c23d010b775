# Everything runs offline once the modules are in Go's cache.
GO       ?= go
CACHE    := $(CURDIR)/.cache
TOOLS    := $(CACHE)/bin
VERSITY  := $(TOOLS)/versitygw
STATIC   := $(TOOLS)/staticcheck
FUZZTIME ?= 20s
COUNT    ?= 6

.PHONY: demo test race lint integration crash sim fuzz bench bench-report bench-full bench-tools tidy-check generate tools vuln cross faults behaviours clean

demo: ## the whole story on this machine
	$(GO) run ./cmd/ckpt demo

test: ## every fast test; needs nothing but Go
	$(GO) test ./...

race: ## the same under the race detector
	$(GO) test -race ./...

lint: $(STATIC) ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "not gofmt'ed:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(STATIC) ./...

integration: $(VERSITY) ## against a real S3 server, started and stopped by the tests
	CKPT_VERSITYGW=$(VERSITY) $(GO) test -count=1 -run Integration ./objectstore/... ./internal/... ./cmd/...

crash: $(VERSITY) ## wordcount under at least 50 SIGKILLs, on a directory and on a real S3 server
	CKPT_VERSITYGW=$(VERSITY) CKPT_KILLS=50 $(GO) test -count=1 -timeout 20m -v -run 'Killed' ./internal/crashtest

sim: ## the protocol simulation over 10,000 seeds
	CKPT_SIM_SEEDS=10000 $(GO) test -count=1 -timeout 20m -v ./internal/sim

fuzz: ## every fuzz target for FUZZTIME
	@$(GO) list -f '{{.Dir}} {{.ImportPath}} {{range .TestGoFiles}}{{.}} {{end}}{{range .XTestGoFiles}}{{.}} {{end}}' ./... | \
	while read -r dir pkg files; do for f in $$files; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$dir/$$f); do \
			echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
		done; done; done

# Whole checkpoints and recoveries stand in ./bench and take minutes each; they
# repeat what they compare by themselves.
bench: ## the benchmarks of single packages, COUNT times
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) $$($(GO) list ./... | grep -v '/bench$$')

BENCH_ENV = CKPT_BENCH_COMMIT=$$(git describe --always --dirty --exclude '*')

bench-report: bench-tools ## all claims against their peers, and bench/results from it: under 20 minutes on two cores
	CKPT_BENCH_OUT=$(CURDIR)/bench/results $(BENCH_ENV) $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 60m ./bench
	$(GO) run ./bench/report bench/results docs/tuning.md
	cd tools/plot && $(GO) run . $(CURDIR)/bench/results

bench-full: bench-tools $(TOOLS)/minio ## the same with MinIO, 5 GB and the whole matrix, into bench/results-full: hours
	mkdir -p bench/results-full
	CKPT_BENCH_OUT=$(CURDIR)/bench/results-full CKPT_BENCH_FULL=1 $(BENCH_ENV) $(GO) test -run '^$$' -bench . -benchtime 1x -timeout 6h ./bench
	$(GO) run ./bench/report bench/results-full
	cd tools/plot && $(GO) run . $(CURDIR)/bench/results-full

bench-tools: $(VERSITY) $(TOOLS)/rclone ## the pinned servers and peers that benchmarks start

faults: $(VERSITY) ## which rows of the fault catalogue have a passing test
	CKPT_VERSITYGW=$(VERSITY) $(GO) test -json ./... | $(GO) run ./internal/rows faults

behaviours: $(VERSITY) ## which behaviours have a passing test
	CKPT_VERSITYGW=$(VERSITY) $(GO) test -json ./... | $(GO) run ./internal/rows behaviours

tidy-check: ## go.mod and go.sum are what the code needs
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd tools/plot && $(GO) mod tidy -diff

generate: ## Go code of manifest.proto
	mkdir -p $(TOOLS)
	cd tools && $(GO) build -o $(TOOLS)/protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go && $(GO) build -o $(TOOLS)/protogen ./protogen
	$(TOOLS)/protogen -plugin $(TOOLS)/protoc-gen-go

cross: ## the platforms we promise to build on, without cgo
	@for p in linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64; do echo "== $$p"; \
		CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build ./... || exit 1; done

vuln: ## known vulnerabilities, where the database can be reached
	cd tools && $(GO) build -o $(TOOLS)/govulncheck golang.org/x/vuln/cmd/govulncheck
	$(TOOLS)/govulncheck ./...

tools: $(VERSITY) $(STATIC) ## build the pinned tools into .cache

$(VERSITY): tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && $(GO) build -o $@ github.com/versity/versitygw/cmd/versitygw
	@touch $@

$(TOOLS)/rclone: tools/rclone/go.mod tools/rclone/go.sum
	@mkdir -p $(TOOLS)
	cd tools/rclone && $(GO) build -o $@ github.com/rclone/rclone
	@touch $@

$(TOOLS)/minio: tools/minio/go.mod tools/minio/go.sum
	@mkdir -p $(TOOLS)
	cd tools/minio && $(GO) build -o $@ github.com/minio/minio
	@touch $@

$(STATIC): tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && $(GO) build -o $@ honnef.co/go/tools/cmd/staticcheck
	@touch $@

clean:
	rm -rf $(CACHE)
