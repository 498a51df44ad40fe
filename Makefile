# SPDX-License-Identifier: GPL-2.0-or-later
# A thin face over meson. `make run` and `make check` install what they need on Debian 12 first.
BUILD ?= build
PACKAGES := scripts/packages.sh

.PHONY: all run check check-kvm fuzz bench install-packages clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

install-packages:
	@$(PACKAGES) build run

$(BUILD)/build.ninja: | install-packages
	@meson setup $(BUILD) >$(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }; rm -f $(BUILD).log

run: install-packages all
	@tests/guest/make_rootfs.sh $(BUILD)/guest
	@/usr/bin/python3 tests/guest/run.py $(BUILD)

check:
	@$(PACKAGES) build run check
	@$(MAKE) --no-print-directory all
	@/usr/bin/python3 tests/check.py $(BUILD)

check-kvm:
	@$(PACKAGES) build run check
	@$(MAKE) --no-print-directory all
	@/usr/bin/python3 tests/check.py $(BUILD) kvm

# Seconds for each fuzzer; what is found stays in $(BUILD)-fuzz/corpus for the next time
FUZZ_SECONDS ?= 600
fuzz:
	@$(PACKAGES) build check
	@/usr/bin/python3 tests/check.py $(BUILD) fuzz $(FUZZ_SECONDS)

bench:
	@$(PACKAGES) build run check bench
	@$(MAKE) --no-print-directory all
	@tests/guest/make_rootfs.sh $(BUILD)/guest
	@/usr/bin/python3 tests/bench/bench.py $(BUILD) $(ARGS)
	@/usr/bin/python3 tests/bench/idle.py $(BUILD)
	@/usr/bin/python3 -B tests/bench/manage.py $(BUILD)
	@/usr/bin/python3 tests/bench/network.py $(BUILD)
	@/usr/bin/python3 -B tests/bench/migrate.py $(BUILD)
	@/usr/bin/python3 tests/bench/exits.py $(BUILD)
	@/usr/bin/python3 tests/bench/disks.py $(BUILD)
	@/usr/bin/python3 tests/bench/guest_disk.py $(BUILD)

clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-fuzz
