#!/usr/bin/env bash
# sudo scripts/bench-veth.sh [--quick] [--runs N] [--flows "1024 32768 250000"] [--protocol udp|tcp] [--rate PPS] [--seconds S] [--plot FILE.svg]
#
# What weir gives beside a program that does nothing, and beside those that one would take instead, each between two veth pairs:
#
#   bare      a bare AF_XDP forwarder, which writes both MAC addresses and does nothing else (examples/veth)
#   weir      full-NAT to one of eight backends
#   testpmd   DPDK's forwarder over net_af_xdp: writes both MAC addresses (--forward-mode=mac)
#   forward   the kernel's own way without NAT and conntrack: a route for the VIP
#   nftables  the kernel's own full-NAT
#
# A run measures each for S seconds (0.5), one after the other, for every row; the next run in the opposite order. Rates are medians of N
# runs (13), and so are ratios: each is of two measurements of the same run, for what a shared machine gives changes from second to second.
# Many short runs say more than few long ones. --plot draws the rates.
#
#   client ── c0 ═ l0 ── bare | weir | testpmd | forward | nftables ── l1 ═ s0 ── server
#
# Core 0 makes the packets (in the kernel, 60 bytes) and runs the receive softirq of l0, up to the AF_XDP ring. Core 1 runs the
# forwarder, its transmission, the softirq of s0, where packets are counted, and for two ways that of l1 and c0 as well. The kernel
# would forward in the receive softirq on core 0 beside the generator: receive packet steering (RPS) moves it to core 1.
# testpmd polls without pause, so it is stopped (SIGSTOP) while others are measured.
# One way: client to server. Two ways: the server sends every packet back as a reply, both directions are summed.
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/testpmd.sh

runs=13 flows="1024 32768 250000" protocol=udp rate=1500000 seconds=0.5 plot=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 flows="1024 32768" ;;
    --runs) runs=$2; shift ;;
    --flows) flows=$2; shift ;;
    --protocol) protocol=$2; shift ;;
    --rate) rate=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --plot) plot=$2; shift ;;
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
systems="bare weir testpmd forward nftables"
pids=()
testpmd_pid=

clean_up() {
    trap '' INT TERM HUP
    if [ ${#pids[@]} -gt 0 ]; then
        kill "${pids[@]}" 2>/dev/null || true
        [ -z "$testpmd_pid" ] || kill -CONT "$testpmd_pid" 2>/dev/null || true
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

# Its main thread would end with its input; with a period for its statistics it sleeps.
start_testpmd() {
    (exec nsenter --net="/run/netns/$prefix-testpmd-forward" bash -c "$(declare -f run_testpmd); testpmd=$testpmd; run_testpmd \"\$@\"" testpmd \
        1 --forward-mode=mac --eth-peer=0,02:00:00:00:00:11 --eth-peer=1,02:00:00:00:00:44) >"$directory/testpmd.log" 2>&1 </dev/null &
    pids+=($!)
    testpmd_pid=$!
    started testpmd grep -q 'forwards packets on 2 streams' "$directory/testpmd.log"
    kill -STOP "$testpmd_pid"
}

# by_kernel SYSTEM : the kernel forwards there, on core 1.
by_kernel() {
    # veth takes redirected frames only where a native XDP program is attached.
    "${ends[@]}" pass --namespace "$prefix-$1-forward" --interfaces l0 l1 >"$directory/$1.log" 2>&1 &
    pids+=($!)
    started "$1" grep -q ready "$directory/$1.log"
    on "$1" forward sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    # /sys shows the interfaces of the namespace that it was mounted in: `ip netns exec` mounts it anew.
    ip netns exec "$prefix-$1-forward" sh -c 'echo 2 >/sys/class/net/l0/queues/rx-0/rps_cpus'
}

start_forward() {
    by_kernel forward
    ip -n "$prefix-forward-forward" route add 10.1.0.100/32 via 10.2.0.11
}

start_nftables() {
    by_kernel nftables
    ip -n "$prefix-nftables-forward" address add 10.1.0.100/32 dev l0
    ip -n "$prefix-nftables-forward" address add 10.2.0.200/32 dev l1
    on nftables forward nft -f - <<RULES
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

# measure SYSTEM FLOWS [--two-way] [--opened] : megapackets a second at the server and back at the client, summed.
measure() {
    local system=$1 count=$2
    shift 2
    [ "$system" != testpmd ] || kill -CONT "$testpmd_pid"
    "${ends[@]}" measure --client "$prefix-$system-client" --server "$prefix-$system-server" --to 02:00:00:00:00:22 \
        --vip 10.1.0.100 --clients 10.100.0.1 --flows "$count" --protocol "$protocol" --rate "$rate" --seconds "$seconds" "$@" |
        awk '{ print $2 + $3 }'
    [ "$system" != testpmd ] || kill -STOP "$testpmd_pid"
}

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }

say "Making the namespaces and starting the forwarders"
if ! fetch_testpmd; then
    echo "SKIP testpmd: $testpmd_reason"
    systems=${systems/testpmd /}
fi
for system in $systems; do
    wires "$system"
    "start_$system"
done

say "Measuring: $protocol, offered $(awk "BEGIN { print $rate / 1e6 }") Mpps, medians of $runs runs of $seconds s"
printf 'core 0: generator, receive softirq; core 1: forwarder, transmission, sink; load before: %s\n\n' "$(cut -d' ' -f1 /proc/loadavg)"
# ratios OF BY : what came out in each run, divided.
ratios() { paste "$1" "$2" | awk '{ print $2 ? $1 / $2 : 0 }'; }

reversed() { printf '%s\n' "$@" | tac; }

# open_flows SYSTEM : all at once, before anything is measured. Rows share them, so those of UDP stay open; TCP ones that nobody answers don't.
# shellcheck disable=SC2086 # a word a number
open_flows() { measure "$1" "$(printf '%s\n' $flows | sort -n | tail -1)" >/dev/null; }

# again SYSTEM : the option that says that flows need not be opened.
again() {
    case $1 in
    weir | nftables) [ "$protocol" = tcp ] || echo --opened ;;
    *) echo --opened ;; # knows no flows
    esac
}

# a_run RUN ORDER... : every row once, each system in this order.
a_run() {
    local run=$1 way count system option
    shift
    for way in one two; do
        option=
        [ "$way" = one ] || option=--two-way
        for count in $flows; do
            for system in "$@"; do
                # shellcheck disable=SC2046,SC2086 # no word or one each
                measure "$system" "$count" $option $(again "$system") >>"$directory/$way-$count-$system" ||
                    die "$system, run $run, failed: $(cat "$directory/$system.log")"
            done
        done
    done
}

# Row by row, one bad minute of a shared machine would be one row; so all rows take turns.
order=$systems
for system in weir nftables; do open_flows "$system"; done
for run in $(seq "$runs"); do
    # shellcheck disable=SC2086 # a word a system
    a_run "$run" $order
    # shellcheck disable=SC2086 # a word a system
    order=$(reversed $order)
done

all="bare weir testpmd forward nftables" peers="bare testpmd forward nftables"
# of_row WAY FLOWS : its rates and its ratios, "-" where a system is not there.
of_row() {
    local of=$directory/$1-$2 system
    for system in $all; do if [ -e "$of-$system" ]; then median <"$of-$system"; else echo -; fi; done
    for system in $peers; do if [ -e "$of-$system" ]; then ratios "$of-weir" "$of-$system" | median; else echo -; fi; done
}
for way in one two; do
    # shellcheck disable=SC2046 # a word a number
    for count in $flows; do echo "$way" "$count" $(of_row "$way" "$count"); done
done >"$directory/table"
{
    # shellcheck disable=SC2046,SC2086 # a word a system
    echo way flows $all $(printf ' weir/%s' $peers)
    cat "$directory/table"
} | awk 'function rounded(value, places) { return value ~ /^[0-9.]+$/ ? sprintf("%." places "f", value) : value }
    { printf "%-4s %7s", $1, $2
      for (n = 3; n <= 7; n++) printf " %9s", rounded($n, 3)
      for (; n <= 11; n++) printf " %13s", rounded($n, 2)
      print "" }'

[ -z "$plot" ] || awk -v names="$all" "$(cat scripts/plot.awk)"'
    { label[NR] = $1 ($1 == "one" ? " way, " : " ways, ") $2; for (n = 3; n <= 7; n++) if ($n != "-") rate[NR, n - 2] = $n }
    END {
        picture(720, 300)
        bars(24, "million packets a second, 64 bytes, by ways and flows", NR, label, 5, rate)
        legend(284, names)
        finish()
    }' "$directory/table" >"$plot"
