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
. scripts/options.sh
. scripts/workplace.sh
. scripts/figures.sh
. scripts/laboratory.sh
. scripts/testpmd.sh

runs=13 flows="1024 32768 250000" protocol=udp rate=1500000 seconds=0.5 plot=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 flows="1024 32768" ;;
    --runs) runs=$(whole 1 1000 "$@"); shift ;;
    --flows) flows=$(counts 1 500000 "$@"); shift ;;
    --protocol) protocol=$(one_of "udp tcp" "$@"); shift ;;
    --rate) rate=$(whole 1000 20000000 "$@"); shift ;;
    --seconds) seconds=$(decimal 0.1 3600 "$@"); shift ;;
    --plot) plot=$(new_file "$@"); shift ;;
    -h | --help) help ;;
    *) usage "$1" ;;
    esac
    shift
done

open_laboratory bench nftables
build_weir
say "Building the ends of the benchmark"
find_rust
cargo build --release --quiet --example veth
clang -target bpf -O2 -g -mcpu=v3 -I"/usr/include/$(uname -m)-linux-gnu" -c examples/veth/traffic.bpf.c -o "$directory/traffic.o"
ends=(target/release/examples/veth --object "$directory/traffic.o")
systems="bare weir testpmd forward nftables" servers="10.2.0.11 10.2.0.12 10.2.0.13 10.2.0.14 10.2.0.15 10.2.0.16 10.2.0.17 10.2.0.18"

# wires SYSTEM : three namespaces and the cables between them. Clients are many and behind one router, c0; servers are eight, on s0.
wires() {
    make_namespaces "$1" client forward server
    # shellcheck disable=SC2046,SC2086 # a word a server
    lay_cables "$1" $(printf '%s/24 ' $servers)
    whole_checksums "$1" client/c0 forward/l0 forward/l1 server/s0
    ip -n "$prefix-$1-forward" route add 10.100.0.0/16 via 10.1.0.2
}

start_bare() {
    background bare forward 1 bare.log "${ends[@]}" forward --namespace "$prefix-bare-forward" --core 1 \
        --first l0 02:00:00:00:00:11 --second l1 02:00:00:00:00:44
    await bare grep -q ready "$directory/bare.log"
}

# shellcheck disable=SC2086 # a word a server
start_weir() {
    run_weir "$any_core" <<TOML
[worker]
cpus = [1]
[snat]
addresses = ["10.2.0.200"]
ports = "1024-65535"
[conntrack]
max_connections = 1000000
[[service]]
name = "bench"
vip = "10.1.0.100:80"
protocol = "$protocol"
scheduler = "round_robin"
pool = "bench"
[[pool]]
name = "bench"
$(backends $servers)
TOML
}

# Its main thread would end with its input; with a period for its statistics it sleeps. It has a process group to itself (`set -m`): where somebody is
# stopped in a group, the kernel sends SIGHUP to all of it when the last one outside of it ends who had to do with it. That would be us, with our caller.
start_testpmd() {
    set -m
    background testpmd forward "$any_core" testpmd.log bash -c "$(declare -f run_testpmd); testpmd=$testpmd; run_testpmd \"\$@\"" testpmd \
        1 --forward-mode=mac --eth-peer=0,02:00:00:00:00:11 --eth-peer=1,02:00:00:00:00:44
    set +m
    testpmd_pid=$!
    await testpmd grep -q 'forwards packets on 2 streams' "$directory/testpmd.log"
    kill -STOP "$testpmd_pid"
}

# by_kernel SYSTEM : the kernel forwards there, on core 1.
by_kernel() {
    # veth takes redirected frames only where a native XDP program is attached.
    background "$1" forward "$any_core" "$1.log" "${ends[@]}" pass --namespace "$prefix-$1-forward" --interfaces l0 l1
    await "$1" grep -q ready "$directory/$1.log"
    steer "$1" forward l0 2
}

start_forward() {
    by_kernel forward
    on forward forward sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip -n "$prefix-forward-forward" route add 10.1.0.100/32 via 10.2.0.11
}

start_nftables() {
    by_kernel nftables
    # shellcheck disable=SC2086 # a word a server
    start_nat nftables "$protocol" $servers
}

# signal SYSTEM NAME : to testpmd; the others wait for packets by themselves.
signal() {
    [ "$1" != testpmd ] || kill "-$2" "$testpmd_pid" || die "testpmd is gone: $(tail -3 "$directory/testpmd.log")"
}

# measure SYSTEM FLOWS [--two-way] [--opened] : megapackets a second at the server and back at the client, summed.
measure() {
    signal "$1" CONT
    "${ends[@]}" measure --client "$prefix-$1-client" --server "$prefix-$1-server" --to 02:00:00:00:00:22 \
        --vip 10.1.0.100 --clients 10.100.0.1 --flows "$2" --protocol "$protocol" --rate "$rate" --seconds "$seconds" "${@:3}" >"$directory/measured" ||
        die "$1 could not be measured with $2 flows; it says: $(tail -3 "$directory/$1.log")"
    signal "$1" STOP
    awk '{ print $2 + $3 }' "$directory/measured"
}

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

# a_run SYSTEM... : every row once, the systems in this order.
a_run() {
    local way count system option
    for way in one two; do
        option=
        [ "$way" = one ] || option=--two-way
        for count in $flows; do
            for system in "$@"; do
                # shellcheck disable=SC2046,SC2086 # no word or one each
                measure "$system" "$count" $option $(again "$system") >>"$directory/$way-$count-$system"
            done
        done
    done
}

# Row by row, one bad minute of a shared machine would be one row; so all rows take turns.
order=$systems
for system in weir nftables; do open_flows "$system"; done
for ((run = 0; run < runs; run++)); do
    # shellcheck disable=SC2086 # a word a system
    a_run $order
    # shellcheck disable=SC2086 # a word a system
    order=$(reversed $order)
done

all="bare weir testpmd forward nftables" peers="bare testpmd forward nftables"
# of_row WAY FLOWS : its rates and its ratios, "-" where a system is not there.
of_row() {
    local of=$directory/$1-$2 system
    for system in $all; do if [ -e "$of-$system" ]; then median <"$of-$system"; else echo -; fi; done
    for system in $peers; do if [ -e "$of-$system" ]; then ratio 1 "$of-weir" "$of-$system"; else echo -; fi; done
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
