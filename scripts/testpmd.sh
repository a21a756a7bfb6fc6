# Sourced by bench-veth.sh: gets DPDK's testpmd, and its driver for AF_XDP, from the Debian mirror that this machine uses. Debian's package
# wants all of DPDK beside it, 190 packages, so nothing is installed: they are unpacked in a cache, 12 MB of them. apt checks their hashes.
# shellcheck shell=bash disable=SC2034 # testpmd_reason is for who calls

testpmd_cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weir/testpmd

# fetch_testpmd : sets $testpmd, the root under which it lies; empty where the package is installed. Fails with apt's words in $testpmd_reason.
fetch_testpmd() {
    testpmd=$testpmd_cache
    if command -v dpdk-testpmd >/dev/null; then testpmd=; fi
    [ -n "$testpmd" ] && [ ! -d "$testpmd" ] || return 0
    command -v apt-get >/dev/null || { testpmd_reason="there is no apt-get here"; return 1; }
    say "Getting DPDK's testpmd"
    local staging
    mkdir -p "$(dirname "$testpmd")"
    staging=$(mktemp -d "$testpmd-XXXXXX")
    if ! unpack_testpmd "$staging" 2>"$staging/log"; then
        testpmd_reason=$(grep -m1 '^E: ' "$staging/log" || tail -1 "$staging/log")
        rm -rf "$staging"
        return 1
    fi
    mv -T "$staging/tree" "$testpmd"
    rm -rf "$staging"
}

# unpack_testpmd DIRECTORY : what it needs and this machine lacks. Not what the package wants for building and for starting at boot.
unpack_testpmd() {
    local packages package
    apt-get update -qq || return
    packages=$(apt-get install --simulate --no-install-recommends dpdk-dev | sed -nE 's/^Inst ([^ ]+) .*/\1/p' |
        grep -vE -e '^lib.*-dev$' -e '^librte-meta' -e 'systemd|udev|rdma-core') || return
    # shellcheck disable=SC2086 # a word a package
    (cd "$1" && apt-get -qq -o APT::Sandbox::User=root download $packages) || return
    for package in "$1"/*.deb; do dpkg-deb -x "$package" "$1/tree" || return; done
}

# run_testpmd CORE ARGUMENT... : testpmd between the interfaces l0 and l1 of the namespace that it is called in, forwarding on CORE. It polls without
# pause and without SO_PREFER_BUSY_POLL, which halves it on veth; no hugepages are needed. Replaces the shell.
run_testpmd() {
    local core=$1 triple libraries
    shift
    triple=$(uname -m)-linux-gnu
    libraries=$testpmd/usr/lib/$triple
    # libxdp's own program in the place of its dispatcher of many; it looks for it where the package would have put it.
    export LD_LIBRARY_PATH=$libraries:$testpmd/lib/$triple LIBXDP_SKIP_DISPATCHER=1 LIBXDP_OBJECT_PATH=$libraries/bpf
    exec "$testpmd/usr/bin/dpdk-testpmd" -l "0,$core" --main-lcore 0 --no-huge -m 256 --no-pci --no-shconf --no-telemetry \
        -d "$(find "$libraries/dpdk" -name 'librte_net_af_xdp.so.*' -print -quit)" \
        -d "$(find "$libraries/dpdk" -name 'librte_mempool_ring.so.*' -print -quit)" \
        --vdev net_af_xdp0,iface=l0,busy_budget=0 --vdev net_af_xdp1,iface=l1,busy_budget=0 \
        -- --auto-start --stats-period 3600 --no-mlockall --total-num-mbufs=32768 --burst=64 "$@"
}
