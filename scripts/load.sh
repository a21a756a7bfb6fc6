# Sourced behind generator.sh and figures.sh by scripts that offer weir known loads: their options, weir, an offer, and what the capacity is.
# shellcheck shell=bash disable=SC2034,SC2154 # plot and remark are for who calls, others are of workplace.sh
#
# Core 0 has the generator (`weir pktgen`, live frames, UDP of 64 bytes, one way) and the receive softirq of l0, up to the AF_XDP ring. Core 1 has weir,
# its transmission and the softirq of s0, where packets are counted and timed.

# read_options ARGUMENT... : sets $runs, $flows, $highest and $plot, and $seconds where it is told; the script's own head says what they are.
read_options() {
    runs=5 flows=1024 highest=1400000 plot=
    while [ $# -gt 0 ]; do
        case $1 in
        --quick) runs=1 ;;
        --runs) runs=$(whole 1 1000 "$@"); shift ;;
        --seconds) seconds=$(decimal 0.1 3600 "$@"); shift ;;
        --flows) flows=$(whole 1 64512 "$@"); shift ;;
        --highest) highest=$(whole 1000 10000000 "$@"); shift ;;
        --plot) plot=$(new_file "$@"); shift ;;
        -h | --help) help ;;
        *) usage "$1" ;;
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

# offering RATE : by the generator, which replaces the shell.
offering() { generate --cpu 0 --vip 10.1.0.100:80 --rate "$1" --flows "$flows" --duration "$seconds"; }
# answered : packets a second sent and received, percentage lost, and p50, p99, p99.9 in µs.
answered() {
    jq -r '.figures | (.nanos / 1e9) as $seconds | .received.latency_ns as $late |
        [.offered_pps, .received.frames / $seconds, 100 * .lost / .sent, $late.p50 / 1e3, $late.p99 / 1e3, $late.p99_9 / 1e3]
        | @tsv' "$directory/answer.json"
}
# offer RATE : what was answered.
offer() {
    (offering "$1") || no_measurement "an offer of $1 packets a second"
    answered
}

# too_much LOST : whether a load is above what weir can: it loses 5 % at least. A busy machine alone loses a few of any load.
too_much() { awk -v lost="$1" 'BEGIN { exit !(lost >= 5) }'; }

# find_capacity : sets $capacity, what weir lets through of too much. Where all comes through, that is what the generator can, not weir.
find_capacity() {
    local of=$directory/highest offered lost
    say "Looking for the capacity: $highest packets a second asked for, $runs times"
    for ((run = 0; run < runs; run++)); do offer "$highest" >>"$of"; done
    offered=$(column 1 "$of") lost=$(column 3 "$of")
    capacity=$(column 2 "$of" | awk '{ printf "%d", $1 }')
    printf 'offered %.0f, received %d, lost %.2f %% %s\n' "$offered" "$capacity" "$lost" "$(shortfall "$offered" "$highest")"
    too_much "$lost" ||
        die "no capacity was found: less than 5 % was lost of what was offered. --highest says what to ask for; the generator needs core 0 for itself"
    # One per cent of it is offered, too.
    [ "$capacity" -ge 1000 ] || die "no capacity was found: only $capacity packets a second come through"
}

# short COLUMN : of the table, whose rows end with what `shortfall` says from this column on: whether there is a row whose load was not offered.
short() {
    awk -v column="$1" 'NF >= column { found = 1 } END { exit !found }' "$directory/table" || return
    echo "Not every load was offered (rows with <-), so there is no picture and nothing to compare: the generator needs core 0 for itself." >&2
}
# The rest of such a row, in awk.
# shellcheck disable=SC2016 # awk's own
remark='function remark(n,    all) { for (; n <= NF; n++) all = all " " $n; return all }'

