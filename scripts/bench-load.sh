#!/usr/bin/env bash
# sudo scripts/bench-load.sh [--quick] [--runs N] [--seconds S] [--flows N] [--highest PPS] [--plot FILE.svg]
#
# weir between two veth pairs under 10 % to 150 % of what it can: how much comes through, how much is lost, and how long it is on the way. Above its
# capacity it must not do less. The capacity is what comes through when far more is offered (--highest, 1.4 million packets a second).
# Then all loads take turns, in N runs (5) of S seconds (1) each, the next run in the opposite order; figures are medians. --plot draws them.
#
# The cables, and what runs on which core, are drawn in scripts/laboratory.sh: what is lost above the capacity is lost at weir's ring.
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/laboratory.sh

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

open_laboratory load
start_weir

say "Looking for the capacity: $highest packets a second offered, $runs times"
for run in $(seq "$runs"); do offer "$highest" "$flows" "$seconds" >>"$directory/highest"; done
capacity=$(column 2 "$directory/highest" | cut -d. -f1)
printf 'offered %.0f, received %d: the capacity\n' "$(column 1 "$directory/highest")" "$capacity"

say "Measuring: $flows flows, medians of $runs runs of $seconds s; packets a second, times one way in µs"
loads="10 25 50 75 90 100 110 125 150" order=$loads
for run in $(seq "$runs"); do
    for load in $order; do offer "$((capacity * load / 100))" "$flows" "$seconds" >>"$directory/$load"; done
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
