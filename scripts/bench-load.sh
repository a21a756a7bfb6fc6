#!/usr/bin/env bash
# sudo scripts/bench-load.sh [--quick] [--runs N] [--seconds S] [--flows N] [--highest PPS] [--plot FILE.svg]
#
# weir between two veth pairs under 10 % to 150 % of what it can: how much comes through, how much is lost, and how long it is on the way. Above its
# capacity it must not do less. The capacity is what comes through when far more is offered (--highest, 1.4 million packets a second).
# Then all loads take turns, in N runs (5) of S seconds (1) each, the next run in the opposite order; figures are medians. --plot draws them.
# The exit code is 1 if weir does less above its capacity, and if a load was not offered or 150 % came through: then nothing is said about weir.
#
# The cables, and what runs on which core, are told in scripts/load.sh: what is lost above the capacity is lost at weir's ring.
# Everything happens in network namespaces of this run, which are removed at the end, also after Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh
. scripts/workplace.sh
. scripts/figures.sh
. scripts/laboratory.sh
. scripts/generator.sh
. scripts/load.sh

seconds=1
read_options "$@"

open_load_laboratory load
start_weir 'idle = "sleep"'
find_capacity

say "Measuring: $flows flows, medians of $runs runs of $seconds s; packets a second, times one way in µs"
loads="10 25 50 75 90 100 110 125 150" order=$loads
for ((run = 0; run < runs; run++)); do
    for load in $order; do offer "$((capacity * load / 100))" >>"$directory/$load"; done
    # shellcheck disable=SC2086 # a word a load
    order=$(reversed $order)
done
for load in $loads; do
    # shellcheck disable=SC2046 # a word a number
    echo "$load" $(for n in 1 2 3 4 5 6; do column "$n" "$directory/$load"; done) "$(shortfall "$(column 1 "$directory/$load")" "$((capacity * load / 100))")"
done >"$directory/table"
printf '%6s %11s %11s %8s %9s %9s %9s\n' load sent received lost p50 p99 p99.9
awk "$remark"'{ printf "%4d %% %11.0f %11.0f %6.2f %% %9.1f %9.1f %9.1f%s\n", $1, $2, $3, $4, $5, $6, $7, remark(8) }' "$directory/table"
! short 8 || exit 1
too_much "$(awk '$1 == 150 { print $4 }' "$directory/table")" ||
    die "nothing to compare: 150 % came through, so what was taken for the capacity, while the machine did something else, was none"

# Two panels over the offered load: what came of it, and the times.
[ -z "$plot" ] || awk -v capacity="$capacity" "$(cat scripts/plot.awk)"'
    function x(load) { return 60 + load * 4 }
    function came(percent) { return even(24, percent, 150) }
    function late(micros) { return power(304, micros, 1, 10000) }
    { received = received x($1) "," came(100 * $3 / capacity) " "; p50 = p50 x($1) "," late($5) " "
      p99 = p99 x($1) "," late($6) " "; p999 = p999 x($1) "," late($7) " " }
    END {
        picture(720, 600)
        even_panel(24, "offered and received, % of the capacity", 150)
        line(x(0) "," came(0) " " x(150) "," came(150), colour(1))
        line(received, colour(2))
        power_panel(304, "time one way, µs", 1, 10000)
        line(p50, colour(3)); line(p99, colour(4)); line(p999, colour(5))
        for (load = 0; load <= 150; load += 25) { under(24, x(load), load); under(304, x(load), load) }
        text(360, 556, "middle", "offered, % of the capacity")
        legend(584, "offered received p50 p99 p99.9")
        finish()
    }' "$directory/table" >"$plot"

awk '$1 == 100 { full = $3 } END {
    share = $3 / full
    printf "\nreceived at 150 %% of the capacity / at 100 %%: %.2f (at least 0.9, which is no livelock: %s)\n", share, share < 0.9 ? "NO" : "yes"
    exit share < 0.9
}' "$directory/table" || exit 1
