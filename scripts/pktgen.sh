#!/usr/bin/env bash
# sudo scripts/pktgen.sh [--quick] [--seconds S] [--rate PPS] [--highest PPS] [--sender live-frames|af-xdp]
#
# The main profiles of `weir pktgen` through a weir between two veth pairs: a fixed rate, many flows, large packets, both ways, IMIX, IPv6, TCP, a SYN flood,
# a ramp, the other senders (the kernel's pktgen where the kernel has it), and
# the search for the highest rate without loss (RFC 2544, section 26.1). One line each: what was sent and received a second, what was
# lost, and how long it was on the way. --rate is one that weir bears: a row of which more than 1 % was lost is marked (<-), and so is one whose flows
# were not all open, or whose load was not offered. With such a row the exit code is 1.
#
#   client ── c0 ═ l0 ── weir ── l1 ═ s0 ── server
#
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh
. scripts/workplace.sh
. scripts/laboratory.sh
. scripts/generator.sh

seconds=5 rate=100000 highest=1000000 sender=live-frames
while [ $# -gt 0 ]; do
    case $1 in
    --quick) seconds=1 rate=20000 highest=200000 ;;
    --seconds) seconds=$(decimal 0.1 3600 "$@"); shift ;;
    --rate) rate=$(whole 1000 10000000 "$@"); shift ;;
    --highest) highest=$(whole 1000 20000000 "$@"); shift ;;
    --sender) sender=$(one_of "live-frames af-xdp" "$@"); shift ;;
    -h | --help) help ;;
    *) usage "$1" ;;
    esac
    shift
done

open_laboratory pktgen jq
build_weir

say "Making the namespaces and starting weir"
make_namespaces weir client forward server
for side in client forward server; do on weir $side sh -c 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad'; done
lay_cables weir 10.2.0.11/24 fd00:2::11/64
address weir client c0 fd00:1::2/64
address weir forward l0 fd00:1::1/64
address weir forward l1 fd00:2::1/64
whole_checksums weir client/c0 forward/l0 forward/l1 server/s0
ip -n "$prefix-weir-forward" route add 198.18.0.0/15 via 10.1.0.2
ip -n "$prefix-weir-forward" route add 2001:2::/48 via fd00:1::2

service() { # NAME PROTOCOL VIP BACKEND
    printf '[[service]]\nname = "%s"\nvip = "%s"\nprotocol = "%s"\npool = "%s"\n' "$1" "$3" "$2" "$1"
    printf '[[pool]]\nname = "%s"\nbackends = [{ address = "%s" }]\n' "$1" "$4"
}
run_weir "$any_core" <<TOML
[snat]
addresses = ["10.2.0.200", "fd00:2::200"]
[conntrack]
max_connections = 1000000
$(service udp4 udp 10.1.0.100:80 10.2.0.11:80)
$(service tcp4 tcp 10.1.0.100:80 10.2.0.11:80)
$(service udp6 udp '[fd00:1::100]:80' '[fd00:2::11]:80')
TOML

marked=
# profile NAME ARGUMENTS... : one measurement and its line, by the sender that is asked for.
profile() { profile_by "$sender" "$@"; }

# profile_by SENDER NAME ARGUMENTS... : the same by another one.
profile_by() {
    local name=$2 result=0 row marks
    (generate --sender "$1" "${@:3}") || result=$?
    # One that failed may have measured, too: that nothing came.
    row=$(figures)
    [ -n "$row" ] || no_measurement "$name"
    marks=$(remarks)
    [ -n "$marks" ] || [ "$result" -eq 0 ] || marks="<- failed"
    [ -z "$marks" ] || marked=yes
    # shellcheck disable=SC2086 # a word a number
    printf '%-22s %11s %12s %9s %9s %9s %9s %9s%s\n' "$name" $row "${marks:+ $marks}"
}

# figures : those of the answer, dashes for what was not measured.
figures() {
    jq -r 'def told: if . == null then "-" else round end;
        def micros: if . == null then "-" else . / 100 | round / 10 end;
        .figures | if . == null then [range(7) | "-"] else
        (if .came_back.frames > 0 then .came_back else .received end) as $come | ($come.latency_ns) as $late | ([.nanos, 1] | max / 1e9) as $seconds |
        [(.offered_pps | told), ($come.frames / $seconds | round), .lost, ($late | .p50, .p99, .p99_9 | micros), ($come.max_ns | micros)]
        end | join(" ")' "$directory/answer.json"
}

# remarks : what is wrong with a measurement of what weir should bear.
remarks() {
    {
        # shellcheck disable=SC2046 # a word a number; of a ramp the answer does not say what was asked for
        shortfall $(jq -r --argjson ramp "$((rate * 21 / 20))" '
            if .figures == null then "0 0" else "\(.figures.offered_pps // 0) \(.asked_pps // $ramp)" end' "$directory/answer.json")
        jq -r '
            (select(.figures == null) | "<- no rate that was tried passed"),
            (select(.flows_open != null and .flows_open < .flows) | "<- open: \(.flows_open) of \(.flows) flows"),
            (.figures | select(. != null and .lost > 0.01 * .sent) | "<- lost: \(100 * .lost / .sent | round) %")' "$directory/answer.json"
    } | paste -sd ' '
}

say "Measuring: $sender, $seconds s each; times in µs, of the way there, or there and back"
printf '%-22s %11s %12s %9s %9s %9s %9s %9s\n' profile offered/s received/s lost p50 p99 p99.9 max
vip4=10.1.0.100:80 vip6='[fd00:1::100]:80'
fixed=(--rate "$rate" --duration "$seconds")
profile "UDP" --vip $vip4 "${fixed[@]}"
profile "UDP, 50,000 flows" --vip $vip4 "${fixed[@]}" --flows 50000
profile "UDP, 1518 bytes" --vip $vip4 "${fixed[@]}" --size 1518
profile "UDP, both ways" --vip $vip4 "${fixed[@]}" --echo
profile "UDP, IMIX" --vip $vip4 "${fixed[@]}" --size imix
profile "UDP, IPv6, both ways" --vip "$vip6" "${fixed[@]}" --echo
profile "TCP, both ways" --vip $vip4 "${fixed[@]}" --protocol tcp --echo
profile "SYN flood" --vip $vip4 "${fixed[@]}" --syn-flood
for other in live-frames af-xdp; do
    [ "$other" = "$sender" ] || profile_by $other "UDP, $other" --vip $vip4 "${fixed[@]}"
done
if [ -e /proc/net/pktgen ] || modprobe --quiet pktgen 2>/dev/null; then
    profile_by kernel "UDP, kernel's pktgen" --vip $vip4 "${fixed[@]}"
else
    printf '%-22s %s\n' "UDP, kernel's pktgen" "this kernel has no module pktgen"
fi
profile "ramp to twice the rate" --vip $vip4 --ramp "$((rate / 10)):$((rate * 2)):$seconds"
profile "search, no loss" --vip $vip4 --search --rate "$highest" --duration "$seconds"
[ -z "$marked" ] || die "not everything was measured as it should be: rows with <-"
