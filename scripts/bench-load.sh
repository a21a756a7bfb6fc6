#!/usr/bin/env bash
# sudo scripts/bench-load.sh [--quick] [--runs N] [--seconds S] [--flows N] [--highest PPS] [--plot FILE.svg]
#
# weir between two veth pairs under 10 % to 150 % of what it can: how much comes through, how much is lost, and how long it is on the way. Above its
# capacity it must not do less. The capacity is what comes through when far more is offered (--highest, 1.4 million packets a second).
# Then all loads take turns, in N runs (5) of S seconds (1) each, the next run in the opposite order; figures are medians. --plot draws them.
#
#   client ── c0 ═ l0 ── weir ── l1 ═ s0 ── server
#
# Core 0 has the generator (`weir pktgen`, live frames, UDP of 64 bytes, one way) and the receive softirq of l0, up to the AF_XDP ring. Core 1 has weir,
# its transmission and the softirq of s0, where packets are counted and timed. So what is lost above the capacity is lost at weir's ring.
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh

runs=5 seconds=1 flows=1024 highest=1400000 plot=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) runs=1 ;;
    --runs) runs=$2; shift ;;
    --seconds) seconds=$2; shift ;;
    --flows) flows=$2; shift ;;
    --highest) highest=$2; shift ;;
    --plot) plot=$2; shift ;;
    -h | --help) help ;;
    *) usage ;;
    esac
    shift
done

need_root
# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES iproute2 ethtool util-linux jq
[ "$(nproc)" -ge 2 ] || die "needs two cores: one makes packets, one forwards them"

directory=$(mktemp -d /tmp/weir-load-XXXXXX)
prefix=weir-load-$$
weir_pid=

clean_up() {
    trap '' INT TERM HUP
    if [ -n "$weir_pid" ]; then
        kill "$weir_pid" 2>/dev/null || true
        wait "$weir_pid" 2>/dev/null || true
    fi
    local side
    for side in client forward server; do ip netns delete "$prefix-$side" 2>/dev/null || true; done
    rm -rf "$directory"
    give_back
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

weir=${WEIR_BINARY:-target/release/weir}
if [ -z "${WEIR_BINARY:-}" ]; then
    say "Building weir"
    find_rust
    cargo build --release --quiet --bin weir
fi

say "Making the namespaces and starting weir"
for side in client forward server; do
    ip netns add "$prefix-$side"
    ip -n "$prefix-$side" link set lo up
done
ip -n "$prefix-client" link add c0 address 02:00:00:00:00:11 type veth peer name l0 netns "$prefix-forward" address 02:00:00:00:00:22
ip -n "$prefix-server" link add s0 address 02:00:00:00:00:44 type veth peer name l1 netns "$prefix-forward" address 02:00:00:00:00:33
for side in "client c0 10.1.0.2/24" "forward l0 10.1.0.1/24" "forward l1 10.2.0.1/24" "server s0 10.2.0.11/24"; do
    # shellcheck disable=SC2086 # three words
    set -- $side
    ip -n "$prefix-$1" address add "$3" dev "$2"
    ip -n "$prefix-$1" link set "$2" up
    nsenter --net="/run/netns/$prefix-$1" ethtool -K "$2" tx off >/dev/null
done
ip -n "$prefix-forward" route add 198.18.0.0/15 via 10.1.0.2

cat >"$directory/weir.toml" <<TOML
interface = [{ name = "l0" }, { name = "l1" }]
worker = { cpus = [1] }
snat = { addresses = ["10.2.0.200"] }
conntrack = { max_connections = 1000000 }
service = [{ name = "load", vip = "10.1.0.100:80", protocol = "udp", pool = "load" }]
pool = [{ name = "load", backends = [{ address = "10.2.0.11:80" }] }]
admin = { socket = "$directory/admin.sock" }
TOML
taskset -c 1 nsenter --net="/run/netns/$prefix-forward" "$weir" run --config "$directory/weir.toml" >"$directory/weir.log" 2>&1 &
weir_pid=$!
for _ in $(seq 100); do
    ! nsenter --net="/run/netns/$prefix-forward" "$weir" status --socket "$directory/admin.sock" >/dev/null 2>&1 || break
    kill -0 "$weir_pid" 2>/dev/null || die "weir did not start: $(cat "$directory/weir.log")"
    sleep 0.1
done

# offer RATE : packets a second sent and received, percentage lost, and p50, p99, p99.9 in µs.
offer() {
    "$weir" pktgen --namespace "$prefix-client" --interface c0 --sink-namespace "$prefix-server" --sink s0 --to 02:00:00:00:00:22 \
        --cpu 0 --vip 10.1.0.100:80 --flows "$flows" --rate "$1" --duration "$seconds" --json >"$directory/answer.json" ||
        die "the generator failed at $1; weir says: $(tail -3 "$directory/weir.log")"
    jq -r '.figures | (.nanos / 1e9) as $seconds | .received.latency_ns as $late |
        [.offered_pps, .received.frames / $seconds, 100 * .lost / (.lost + .received.frames), $late.p50 / 1e3, $late.p99 / 1e3, $late.p99_9 / 1e3]
        | @tsv' "$directory/answer.json"
}

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }
# column N FILE : that figure's median.
column() { cut -f"$1" "$2" | median; }

say "Looking for the capacity: $highest packets a second offered, $runs times"
for run in $(seq "$runs"); do offer "$highest" >>"$directory/highest"; done
capacity=$(column 2 "$directory/highest" | cut -d. -f1)
printf 'offered %.0f, received %d: the capacity\n' "$(column 1 "$directory/highest")" "$capacity"

say "Measuring: $flows flows, medians of $runs runs of $seconds s; packets a second, times one way in µs"
loads="10 25 50 75 90 100 110 125 150" order=$loads
for run in $(seq "$runs"); do
    for load in $order; do offer "$((capacity * load / 100))" >>"$directory/$load"; done
    # shellcheck disable=SC2086 # a word a load
    order=$(printf '%s\n' $order | tac)
done
for load in $loads; do
    # shellcheck disable=SC2046 # a word a number
    echo "$load" $(for n in 1 2 3 4 5 6; do column "$n" "$directory/$load"; done)
done >"$directory/table"
printf '%6s %11s %11s %8s %9s %9s %9s\n' load sent received lost p50 p99 p99.9
awk '{ printf "%4d %% %11.0f %11.0f %6.2f %% %9.1f %9.1f %9.1f\n", $1, $2, $3, $4, $5, $6, $7 }' "$directory/table"
awk '$1 == 100 { full = $3 } END { printf "\nreceived at 150 %% of the capacity / at 100 %%: %.2f (at least 0.9: no livelock)\n", $3 / full }' "$directory/table"

# Two panels over the offered load: what came of it, and the times on a logarithmic scale from 1 µs to 10 ms.
[ -z "$plot" ] || awk -v capacity="$capacity" "$(cat scripts/plot.awk)"'
    function x(load) { return 60 + load * 4 }
    function came(percent) { return 260 - percent * 1.5 }
    function late(micros) { return 560 - (micros < 1 ? 0 : log(micros) / log(10)) * 60 }
    { received = received x($1) "," came(100 * $3 / capacity) " "; p50 = p50 x($1) "," late($5) " "
      p99 = p99 x($1) "," late($6) " "; p999 = p999 x($1) "," late($7) " " }
    END {
        picture(720, 610)
        text(60, 24, "start", "received, % of the capacity (grey: what was offered)")
        for (percent = 0; percent <= 150; percent += 25) { rule(came(percent)); text(54, came(percent) + 4, "end", percent) }
        line(x(0) "," came(0) " " x(150) "," came(150), "#bbb")
        line(received, "#0a6")
        text(60, 304, "start", "time one way, µs: p50, p99, p99.9")
        for (power = 0; power <= 4; power++) { rule(late(10 ^ power)); text(54, late(10 ^ power) + 4, "end", 10 ^ power) }
        line(p50, "#06c"); line(p99, "#e80"); line(p999, "#c00")
        for (load = 0; load <= 150; load += 25) { text(x(load), 278, "middle", load); text(x(load), 578, "middle", load) }
        text(360, 600, "middle", "offered, % of the capacity")
        finish()
    }' "$directory/table" >"$plot"
