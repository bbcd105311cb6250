# What a person types. Every target can be run again and says what it does; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

PREFIX ?= /usr/local
share := $(PREFIX)/share
units := $(PREFIX)/lib/systemd/system
programs := target/x86_64-unknown-linux-gnu/release
bin := build/bin
lib := build/lib/hull
debian := build/debian-bookworm.oci.tar

.PHONY: help
help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: run
run: build ## build, and run a container in a microVM
	@scripts/demo.sh

.PHONY: build
build: builddeps kernel programs rootfs machine ## build all of hull; ./bin/hull is the command
	@ln -sfn $(bin) bin

.PHONY: install
install: ## install what `make build` built below PREFIX (/usr/local), within DESTDIR when it is set; also manual pages, completions, systemd units
	@test -e $(lib)/machine/initrd.img || { echo "nothing to install: run 'make build' first" >&2; exit 1; }
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib
	install -m 755 $(bin)/hull $(DESTDIR)$(PREFIX)/bin/hull
	rm -rf $(DESTDIR)$(PREFIX)/lib/hull
	cp -R $(lib) $(DESTDIR)$(PREFIX)/lib/hull
	$(bin)/hull man $(DESTDIR)$(share)/man/man1
	install -d $(addprefix $(DESTDIR)$(share)/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	$(bin)/hull completion bash >$(DESTDIR)$(share)/bash-completion/completions/hull
	$(bin)/hull completion zsh >$(DESTDIR)$(share)/zsh/site-functions/_hull
	$(bin)/hull completion fish >$(DESTDIR)$(share)/fish/vendor_completions.d/hull.fish
	install -d $(DESTDIR)$(units)
	sed 's|@LIB@|$(PREFIX)/lib/hull|' packaging/systemd/hulld.service >$(DESTDIR)$(units)/hulld.service
	install -m 644 packaging/systemd/hulld.socket $(DESTDIR)$(units)/hulld.socket

.PHONY: test
test: testdeps build $(debian) ## build, and run all tests
	@scripts/test.sh

.PHONY: lint
lint: ## formatting, clippy, and cargo-deny and shellcheck where they are installed
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "[lint] no cargo-deny: skipped"; fi
	@if command -v shellcheck >/dev/null; then shellcheck kernel-config/*.sh rootfs/*.sh scripts/*.sh .ci/run; else echo "[lint] no shellcheck: skipped"; fi

.PHONY: fmt
fmt: ## format the Rust code
	cargo fmt --all

.PHONY: fuzz
fuzz: ## run each fuzzer in fuzz/ for FUZZ_SECONDS (60); what it finds is in fuzz/artifacts
	@scripts/packages.sh fuzz
	@scripts/fuzz.sh

.PHONY: bench
bench: testdeps build $(debian) ## measure hull against crun, runc, QEMU, buildah, skopeo and umoci, in one run; PARTS="start memory exec hogs idle storage network build images" is all of it
	cargo run --release --locked --quiet -p system-tests --bin bench -- $(PARTS)

.PHONY: kernel
kernel: ## the guest kernel, from the cache when this source and configuration were built before
	@kernel-config/build.sh $(lib)/vmlinux

.PHONY: programs
programs:
	@scripts/rust.sh
	@echo "[build] compiling hull"
	cargo build --release --locked --workspace --bins
	@install -d $(bin) $(lib)
	@install -C -m 755 $(programs)/hull $(bin)/hull
	@install -C -m 755 $(addprefix $(programs)/,hulld hull-vmm hull-machine) $(lib)

.PHONY: rootfs
rootfs: programs $(lib)/busybox/index.json ## the microVM's initramfs and the embedded busybox image
	@rootfs/initramfs.sh $(programs)/guest-agent $(lib)/initramfs.cpio.new
	@install -C -m 644 $(lib)/initramfs.cpio.new $(lib)/initramfs.cpio && rm $(lib)/initramfs.cpio.new

$(lib)/busybox/index.json: rootfs/busybox-image.sh
	@echo "[rootfs] the embedded busybox image"
	@BUSYBOX=$$(rootfs/debian-package.sh busybox-static)/bin/busybox rootfs/busybox-image.sh $(lib)/busybox
	@touch $@

.PHONY: debian-image
debian-image: build $(debian) ## the image localhost/debian:bookworm from Debian's packages, loaded into hull
	@./bin/hull load --quiet --input $(debian)

# Made of what the mirrors have now, hence looked at each time; from the cache when that was built before.
.PHONY: $(debian)
$(debian): imagedeps
	@rootfs/debian-image.sh $@

.PHONY: machine
machine: kernel rootfs ## the helper VM's kernel and root file system
	@HULL_MACHINE_AGENT=$(programs)/machine-agent rootfs/machine-image.sh $(bin) $(lib)

.PHONY: builddeps imagedeps testdeps
builddeps:
	@scripts/packages.sh build run
imagedeps:
	@scripts/packages.sh image
testdeps:
	@scripts/packages.sh test
	@scripts/docker-py.sh

.PHONY: clean
clean: ## remove what was built here; the cache outside the checkout stays
	rm -rf build bin target
