# Sourced behind laboratory.sh and figures.sh by scripts that offer weir known loads: their options, weir, an offer, and what the capacity is.
# shellcheck shell=bash disable=SC2034,SC2154 # plot is for who calls, others are of workplace.sh
#
# Core 0 has the generator (`weir pktgen`, live frames, UDP of 64 bytes, one way) and the receive softirq of l0, up to the AF_XDP ring. Core 1 has weir,
# its transmission and the softirq of s0, where packets are counted and timed.

# read_options ARGUMENT... : sets $runs, $flows, $highest and $plot, and $seconds where it is told; the script's own head says what they are.
read_options() {
    runs=5 flows=1024 highest=1400000 plot=
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
}

# open_load_laboratory NAME : with weir's binary and cables, so that `start_weir` can follow.
open_load_laboratory() {
    open_laboratory "$1" jq
    build_weir
    make_namespaces weir client forward server
    lay_cables weir 10.2.0.11/24
    whole_checksums weir client/c0 forward/l0 forward/l1 server/s0
    ip -n "$prefix-weir-forward" route add 198.18.0.0/15 via 10.1.0.2
}

# start_weir WORKER : weir on core 1, with these lines of [worker].
start_weir() {
    run_weir 1 <<TOML
[snat]
addresses = ["10.2.0.200"]
[conntrack]
max_connections = 1000000
[[service]]
name = "load"
vip = "10.1.0.100:80"
protocol = "udp"
pool = "load"
[[pool]]
name = "load"
$(backends 10.2.0.11)
[worker]
cpus = [1]
$1
TOML
}

# generate RATE FLOWS SECONDS : the offer, and what came of it in a file; replaces the shell, so that who has started it can end it.
generate() {
    exec "$weir" pktgen --namespace "$prefix-weir-client" --interface c0 --sink-namespace "$prefix-weir-server" --sink s0 --to 02:00:00:00:00:22 \
        --cpu 0 --vip 10.1.0.100:80 --rate "$1" --flows "$2" --duration "$3" --json >"$directory/answer.json"
}
# answered : packets a second sent and received, percentage lost, and p50, p99, p99.9 in µs.
answered() {
    jq -r '.figures | (.nanos / 1e9) as $seconds | .received.latency_ns as $late |
        [.offered_pps, .received.frames / $seconds, 100 * .lost / (.lost + .received.frames), $late.p50 / 1e3, $late.p99 / 1e3, $late.p99_9 / 1e3]
        | @tsv' "$directory/answer.json"
}
# offer RATE FLOWS SECONDS : what was answered.
offer() {
    (generate "$@") || die "the generator failed at $1; weir says: $(tail -3 "$directory/weir.log")"
    answered
}

# find_capacity : sets $capacity, what weir lets through of far more.
find_capacity() {
    say "Looking for the capacity: $highest packets a second offered, $runs times"
    for ((run = 0; run < runs; run++)); do offer "$highest" "$flows" "$seconds" >>"$directory/highest"; done
    capacity=$(column 2 "$directory/highest" | cut -d. -f1)
    printf 'offered %.0f, received %d: the capacity\n' "$(column 1 "$directory/highest")" "$capacity"
}
