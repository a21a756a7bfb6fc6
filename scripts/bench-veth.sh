#!/usr/bin/env bash
# sudo scripts/bench-veth.sh [--quick] [--runs N] [--flows "1024 32768 250000"] [--protocol udp|tcp] [--rate PPS] [--seconds S]
#
# How much is lost against a program that does nothing: weir, a bare AF_XDP forwarder and the kernel's own full-NAT (nftables), each
# between two veth pairs. A run measures each for S seconds (0.5), one after the other, for every row; the next run in the opposite order.
# Rates are medians of N runs (25), and so are ratios: each is of two measurements that followed each other, for what a shared machine gives
# changes from second to second. Many short runs say more than few long ones.
#
#   client ── c0 ═ l0 ── bare | weir | nftables ── l1 ═ s0 ── server
#
# Core 0 makes the packets (in the kernel, 60 bytes) and runs the receive softirq of l0, up to the AF_XDP ring. Core 1 runs the
# forwarder, its transmission, the softirq of s0, where packets are counted, and for two ways that of l1 and c0 as well. nftables
# would run in the receive softirq on core 0 beside the generator: receive packet steering (RPS) moves it to core 1.
# One way: client to server. Two ways: the server sends every packet back as a reply, both directions are summed.
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

runs=25 flows="1024 32768 250000" protocol=udp rate=1500000 seconds=0.5
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 flows="1024 32768" ;;
    --runs) runs=$2; shift ;;
    --flows) flows=$2; shift ;;
    --protocol) protocol=$2; shift ;;
    --rate) rate=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    -h | --help) help ;;
    *) usage ;;
    esac
    shift
done

need_root
# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES iproute2 ethtool nftables util-linux
find_rust
[ "$(nproc)" -ge 2 ] || die "needs two cores: one makes packets, one forwards them"

directory=$(mktemp -d /tmp/weir-bench-XXXXXX)
prefix=weir-bench-$$
systems="bare weir nft"
pids=()

clean_up() {
    trap '' INT TERM HUP
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2>/dev/null || true
        wait "${pids[@]}" 2>/dev/null || true
    fi
    local system side
    for system in $systems; do
        for side in client forward server; do ip netns delete "$prefix-$system-$side" 2>/dev/null || true; done
    done
    rm -rf "$directory"
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "Building weir and the ends of the benchmark"
cargo build --release --quiet --bin weir --example veth
clang -target bpf -O2 -g -mcpu=v3 -I"/usr/include/$(uname -m)-linux-gnu" -c examples/veth/traffic.bpf.c -o "$directory/traffic.o"
weir=target/release/weir
ends=(target/release/examples/veth --object "$directory/traffic.o")

# on SYSTEM SIDE COMMAND... : runs it in that namespace; not by `ip netns exec`, which would hide /sys/fs/bpf.
on() { local namespace=$prefix-$1-$2; shift 2; nsenter --net="/run/netns/$namespace" "$@"; }

# wires SYSTEM : three namespaces and the cables between them. Clients are many and behind one router, c0; servers are eight, on s0.
wires() {
    local system=$1 side backend
    for side in client forward server; do
        ip netns add "$prefix-$system-$side"
        ip -n "$prefix-$system-$side" link set lo up
    done
    ip -n "$prefix-$system-client" link add c0 address 02:00:00:00:00:11 type veth \
        peer name l0 netns "$prefix-$system-forward" address 02:00:00:00:00:22
    ip -n "$prefix-$system-server" link add s0 address 02:00:00:00:00:44 type veth \
        peer name l1 netns "$prefix-$system-forward" address 02:00:00:00:00:33
    ip -n "$prefix-$system-client" address add 10.1.0.2/24 dev c0
    ip -n "$prefix-$system-forward" address add 10.1.0.1/24 dev l0
    ip -n "$prefix-$system-forward" address add 10.2.0.1/24 dev l1
    for backend in 11 12 13 14 15 16 17 18; do ip -n "$prefix-$system-server" address add "10.2.0.$backend/24" dev s0; done
    for side in "client c0" "forward l0" "forward l1" "server s0"; do
        # shellcheck disable=SC2086 # two words
        set -- $side
        ip -n "$prefix-$system-$1" link set "$2" up
        on "$system" "$1" ethtool -K "$2" tx off >/dev/null
    done
    ip -n "$prefix-$system-forward" route add 10.100.0.0/16 via 10.1.0.2
}

# started SYSTEM COMMAND... : waits until the command succeeds, while the background process started last is alive.
started() {
    local system=$1 tries
    shift
    for tries in $(seq 100); do
        ! "$@" >/dev/null 2>&1 || return 0
        kill -0 "${pids[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    die "$system did not start ($tries looks): $(cat "$directory/$system.log")"
}

start_bare() {
    taskset -c 1 "${ends[@]}" forward --namespace "$prefix-bare-forward" --core 1 \
        --first l0 02:00:00:00:00:11 --second l1 02:00:00:00:00:44 >"$directory/bare.log" 2>&1 &
    pids+=($!)
    started bare grep -q ready "$directory/bare.log"
}

start_weir() {
    {
        printf '[[interface]]\nname = "l0"\n[[interface]]\nname = "l1"\n'
        printf '[worker]\ncpus = [1]\n'
        printf '[snat]\naddresses = ["10.2.0.200"]\nports = "1024-65535"\n'
        printf '[conntrack]\nmax_connections = 1000000\n'
        printf '[[service]]\nname = "bench"\nvip = "10.1.0.100:80"\nprotocol = "%s"\nscheduler = "round_robin"\npool = "bench"\n' "$protocol"
        printf '[[pool]]\nname = "bench"\nbackends = ['
        for backend in 11 12 13 14 15 16 17 18; do printf '{ address = "10.2.0.%s:80" },' "$backend"; done
        printf ']\n[admin]\nsocket = "%s/admin.sock"\n' "$directory"
    } >"$directory/weir.toml"
    on weir forward "$weir" run --config "$directory/weir.toml" >"$directory/weir.log" 2>&1 &
    pids+=($!)
    started weir on weir forward "$weir" status --socket "$directory/admin.sock"
}

start_nft() {
    # veth takes redirected frames only where a native XDP program is attached.
    "${ends[@]}" pass --namespace "$prefix-nft-forward" --interfaces l0 l1 >"$directory/nft.log" 2>&1 &
    pids+=($!)
    started nft grep -q ready "$directory/nft.log"
    on nft forward sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    # /sys shows the interfaces of the namespace that it was mounted in: `ip netns exec` mounts it anew.
    ip netns exec "$prefix-nft-forward" sh -c 'echo 2 >/sys/class/net/l0/queues/rx-0/rps_cpus'
    ip -n "$prefix-nft-forward" address add 10.1.0.100/32 dev l0
    ip -n "$prefix-nft-forward" address add 10.2.0.200/32 dev l1
    on nft forward nft -f - <<RULES
table ip bench {
    chain to_backend {
        type nat hook prerouting priority dstnat
        ip daddr 10.1.0.100 $protocol dport 80 dnat to numgen inc mod 8 map {
            0 : 10.2.0.11, 1 : 10.2.0.12, 2 : 10.2.0.13, 3 : 10.2.0.14, 4 : 10.2.0.15, 5 : 10.2.0.16, 6 : 10.2.0.17, 7 : 10.2.0.18 }
    }
    chain from_us {
        type nat hook postrouting priority srcnat
        oifname l1 ip daddr 10.2.0.0/24 snat to 10.2.0.200
    }
}
RULES
}

# measure SYSTEM FLOWS [--two-way] : megapackets a second at the server and back at the client, summed.
measure() {
    local system=$1 count=$2
    shift 2
    "${ends[@]}" measure --client "$prefix-$system-client" --server "$prefix-$system-server" --to 02:00:00:00:00:22 \
        --vip 10.1.0.100 --clients 10.100.0.1 --flows "$count" --protocol "$protocol" --rate "$rate" --seconds "$seconds" "$@" |
        awk '{ print $2 + $3 }'
}

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }

say "Making the namespaces and starting the forwarders"
for system in $systems; do
    wires "$system"
    "start_$system"
done

say "Measuring: $protocol, offered $(awk "BEGIN { print $rate / 1e6 }") Mpps, medians of $runs runs of $seconds s"
printf 'core 0: generator, receive softirq; core 1: forwarder, transmission, sink; load before: %s\n\n' "$(cut -d' ' -f1 /proc/loadavg)"
# ratios OF BY : what came out in each run, divided.
ratios() { paste "$1" "$2" | awk '{ print $2 ? $1 / $2 : 0 }'; }

reversed() { printf '%s\n' "$@" | tac; }

# a_run RUN ORDER... : every row once, each system in this order.
a_run() {
    local run=$1 way count system option again
    shift
    for way in one two; do
        option=
        [ "$way" = one ] || option=--two-way
        # UDP flows stay open from one run to the next; TCP ones that nobody answers don't.
        again=
        [ "$run" -eq 1 ] || [ "$protocol" = tcp ] || again=--opened
        for count in $flows; do
            for system in "$@"; do
                # shellcheck disable=SC2086 # no word or one each
                measure "$system" "$count" $option $again >>"$directory/$way-$count-$system" ||
                    die "$system, run $run, failed: $(cat "$directory/$system.log")"
            done
        done
    done
}

# Row by row, one bad minute of a shared machine would be one row; so all rows take turns.
order=$systems
for run in $(seq "$runs"); do
    # shellcheck disable=SC2086 # a word a system
    a_run "$run" $order
    # shellcheck disable=SC2086 # a word a system
    order=$(reversed $order)
done

printf '%-9s %9s %9s %9s %9s %10s %9s\n' way flows bare weir nftables weir/bare weir/nft
for way in one two; do
    for count in $flows; do
        of=$directory/$way-$count
        # shellcheck disable=SC2046 # a word a number
        printf '%-9s %9d %9.3f %9.3f %9.3f %10.2f %9.2f\n' "$way" "$count" \
            $(for system in $systems; do median <"$of-$system"; done) \
            "$(ratios "$of-weir" "$of-bare" | median)" "$(ratios "$of-weir" "$of-nft" | median)"
    done
done
