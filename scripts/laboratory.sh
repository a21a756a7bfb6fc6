# Sourced behind packages.sh by scripts that measure weir between two veth pairs: the namespaces, weir in them, one measurement, medians.
# shellcheck shell=bash
#
#   client ── c0 ═ l0 ── weir ── l1 ═ s0 ── server
#
# Core 0 has the generator (`weir pktgen`, live frames, UDP of 64 bytes, one way) and the receive softirq of l0, up to the AF_XDP ring. Core 1 has weir,
# its transmission and the softirq of s0, where packets are counted and timed.

# open_laboratory NAME : directory and namespaces, until this shell ends, and weir's binary.
open_laboratory() {
    need_root
    # shellcheck disable=SC2086 # one word a package
    install_missing $BUILD_PACKAGES iproute2 ethtool util-linux jq
    [ "$(nproc)" -ge 2 ] || die "needs two cores: one makes packets, one forwards them"
    directory=$(mktemp -d "/tmp/weir-$1-XXXXXX")
    prefix=weir-$1-$$
    weir_pid=
    trap close_laboratory EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    weir=${WEIR_BINARY:-target/release/weir}
    if [ -z "${WEIR_BINARY:-}" ]; then
        say "Building weir"
        find_rust
        cargo build --release --quiet --bin weir
    fi
    lay_cables
}

close_laboratory() {
    trap '' INT TERM HUP
    stop_weir
    local side
    for side in client forward server; do ip netns delete "$prefix-$side" 2>/dev/null || true; done
    rm -rf "$directory"
    give_back
}

lay_cables() {
    local side
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
}

# start_weir [SETTING...] : on core 1, with these settings of [worker].
start_weir() {
    {
        printf '[[interface]]\nname = "l0"\n[[interface]]\nname = "l1"\n'
        printf '[snat]\naddresses = ["10.2.0.200"]\n[conntrack]\nmax_connections = 1000000\n'
        printf '[[service]]\nname = "load"\nvip = "10.1.0.100:80"\nprotocol = "udp"\npool = "load"\n'
        printf '[[pool]]\nname = "load"\nbackends = [{ address = "10.2.0.11:80" }]\n'
        printf '[admin]\nsocket = "%s/admin.sock"\n[worker]\ncpus = [1]\n' "$directory"
        [ $# -eq 0 ] || printf '%s\n' "$@"
    } >"$directory/weir.toml"
    taskset -c 1 nsenter --net="/run/netns/$prefix-forward" "$weir" run --config "$directory/weir.toml" >"$directory/weir.log" 2>&1 &
    weir_pid=$!
    for _ in $(seq 100); do
        ! nsenter --net="/run/netns/$prefix-forward" "$weir" status --socket "$directory/admin.sock" >/dev/null 2>&1 || return 0
        kill -0 "$weir_pid" 2>/dev/null || break
        sleep 0.1
    done
    die "weir did not start: $(cat "$directory/weir.log")"
}

stop_weir() {
    [ -n "$weir_pid" ] || return 0
    kill "$weir_pid" 2>/dev/null || true
    wait "$weir_pid" 2>/dev/null || true
    weir_pid=
}

# offer RATE FLOWS SECONDS : packets a second sent and received, percentage lost, and p50, p99, p99.9 in µs.
offer() {
    "$weir" pktgen --namespace "$prefix-client" --interface c0 --sink-namespace "$prefix-server" --sink s0 --to 02:00:00:00:00:22 \
        --cpu 0 --vip 10.1.0.100:80 --rate "$1" --flows "$2" --duration "$3" --json >"$directory/answer.json" ||
        die "the generator failed at $1; weir says: $(tail -3 "$directory/weir.log")"
    jq -r '.figures | (.nanos / 1e9) as $seconds | .received.latency_ns as $late |
        [.offered_pps, .received.frames / $seconds, 100 * .lost / (.lost + .received.frames), $late.p50 / 1e3, $late.p99 / 1e3, $late.p99_9 / 1e3]
        | @tsv' "$directory/answer.json"
}

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }
# column N FILE : that figure's median.
column() { cut -f"$1" "$2" | median; }
