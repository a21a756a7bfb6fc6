#!/usr/bin/env bash
# sudo scripts/test.sh: installs what is missing and runs every test; the last line is `N passed, N failed, N skipped`.
#
# With CI=true a test that is skipped is a failure.
# Touches nothing outside of target/ and of network namespaces that vanish with the tests (see tests/support).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

TEST_PACKAGES="nginx-light vsftpd dnsmasq-base openssl curl libusrsctp-examples iperf3 iproute2 ethtool iputils-ping traceroute tcpdump nftables util-linux git valgrind"
# Network tests at a time: most of them wait most of the time, some use a whole core.
NETWORK_THREADS=${NETWORK_THREADS:-2}

need_root
# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES $TEST_PACKAGES
find_rust

passed=0 failed=0 skipped=0 job=
log=$(mktemp) skip_log=$(mktemp)

clean_up() {
    # A job has a process group of its own; its namespaces and everything in them end with it.
    [ -z "$job" ] || kill -KILL -- "-$job" 2>/dev/null || true
    rm -f "$log" "$skip_log"
    # What a failed test left as evidence stays until the next run.
    [ "$failed" -gt 0 ] || rm -rf target/tmp/weir-*
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# count PATTERN : sums the number that the pattern captures, over all lines of the log.
count() { sed -n -E "s/$1/\1/p" "$log" | awk '{ sum += $1 } END { print sum + 0 }'; }

# step TITLE COMMAND... : runs it, shows it, and adds up what its tests say. A command that fails without a failed test counts as one.
step() {
    local result=0 failures skips
    say "$1"
    shift
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    job=$!
    set +m
    tail -n +1 -f --pid "$job" "$log" &
    wait "$job" || result=$?
    wait $! || true
    job=
    failures=$(count '^test result: .* ([0-9]+) failed;.*')
    skips=$(grep -c '^SKIP ' "$log" || true)
    grep '^SKIP ' "$log" >>"$skip_log" || true
    # A test that printed SKIP counts as passed with libtest.
    passed=$((passed + $(count '^test result: .* ([0-9]+) passed;.*') - skips))
    skipped=$((skipped + skips + $(count '^test result: .* ([0-9]+) ignored;.*')))
    # A script that skips itself ends with 77; none of its tests counts as passed.
    if [ "$result" -eq 77 ]; then result=0 passed=$((passed + skips)); fi
    if [ "$result" -ne 0 ] && [ "$failures" -eq 0 ]; then failures=1; fi
    failed=$((failed + failures))
}

# All test programs but the network tests, which must not all run at once.
others=()
for path in tests/*.rs tests/*/main.rs; do
    name=$(basename "${path%/main.rs}" .rs)
    # zero_copy is for the virtual machine.
    [ "$name" = network ] || [ "$name" = zero_copy ] || others+=(--test "$name")
done

rm -rf target/tmp/weir-*
step "Format" cargo fmt --check
step "Lints" cargo clippy --quiet --all-targets -- -D warnings
step "Unit and integration tests" cargo test --no-fail-fast --lib --bins "${others[@]}" -- --show-output
step "The table in every interleaving of two threads" cargo test --features loom --lib loom_models
step "Examples in the documentation" cargo test --no-fail-fast --doc
step "Network tests" cargo test --test network -- --test-threads "$NETWORK_THREADS" --show-output
step "Zero-copy in a virtual machine" scripts/zero-copy-vm.sh

if [ -s "$skip_log" ]; then
    say "Skipped"
    cat "$skip_log"
    if [ "${CI:-}" = true ]; then
        echo "CI: each of them counts as failed"
        failed=$((failed + skipped))
    fi
fi
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
