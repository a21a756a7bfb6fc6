#!/usr/bin/env bash
# sudo scripts/bench-idle.sh [--quick] [--runs N] [--seconds S] [--flows N] [--highest PPS] [--plot FILE.svg]
#
# What a worker does while nothing comes in, and what that costs and gives: `idle` and `busy_poll` of [worker] in each combination, with nothing to do and
# at 1 %, 10 % and 100 % of the capacity. That is what comes through in the default mode when far more is offered (--highest, 1.4 million packets a
# second). All modes and loads take turns, in N runs (5) of S seconds (2) each, the next run in the opposite order; figures are medians.
# --plot draws them. The exit code is 1 if the default mode takes 1 % of a core or more with nothing to do, and if a load was not offered.
#
# The cables are drawn in scripts/laboratory.sh, and scripts/load.sh says what runs on which core. `weir` is the time of all threads of weir on a CPU (the
# first number of /proc/PID/task/*/schedstat) in the middle of the run, `core 1` how long that core was not idle. A softirq that runs in a system call of weir, or
# interrupts it, is in the first, unless the kernel keeps its time apart (CONFIG_IRQ_TIME_ACCOUNTING); one that runs in ksoftirqd or while the core is
# idle is only in the second, with whatever else runs there. The receive softirq of l0 is on core 0, and so in neither, unless weir polls.
#
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

seconds=2
read_options "$@"

modes="sleep sleep+busy_poll spin spin+busy_poll" loads="0 1 10 100"
# settings MODE : its lines of [worker].
settings() {
    printf 'idle = "%s"\n' "${1%+busy_poll}"
    [ "${1%+busy_poll}" = "$1" ] || echo 'busy_poll = true'
}

open_load_laboratory idle
# What only looks on stays off weir's core.
taskset -cp 0 $$ >/dev/null

# clocks : now, weir's time on a CPU, and the busy and the whole time of core 1, each in a unit of its own.
clocks() {
    echo "${EPOCHREALTIME/,/.}" "$(cat "/proc/$weir_pid"/task/*/schedstat | awk '{ nanos += $1 } END { printf "%.0f", nanos }')" \
        "$(awk '$1 == "cpu1" { print $2 + $3 + $4 + $7 + $8, $2 + $3 + $4 + $5 + $6 + $7 + $8 + $9 }' /proc/stat)"
}
# came_in : frames that reached weir's interface.
came_in() { awk '$1 == "l0:" { print $3 }' "/proc/$weir_pid/net/dev"; }
# watch : percentages of a core over most of a run: weir's, and all of core 1.
watch() {
    local before
    before=$(clocks)
    sleep "$(echo "$seconds" | awk '{ print 0.75 * $1 }')"
    echo "$before $(clocks)" | awk '{ printf "%.4f\t%.2f\n", ($6 - $2) / ($5 - $1) / 1e7, 100 * ($7 - $3) / ($8 - $4) }'
}

# measure LOAD : what `offer` says, with what `watch` saw meanwhile behind it.
measure() {
    if [ "$1" -eq 0 ]; then
        printf '0\t0\t0\t0\t0\t0\t%s\n' "$(watch)"
        return
    fi
    local opened generator
    # Flows are opened first: load is what comes behind.
    opened=$(($(came_in) + flows + capacity * $1 / 2000))
    offering "$((capacity * $1 / 100))" &
    generator=$!
    while [ "$(came_in)" -lt "$opened" ] && kill -0 "$generator" 2>/dev/null; do sleep 0.01; done
    watch >"$directory/watched"
    wait "$generator" || no_measurement "$1 % of the capacity"
    answered | paste - "$directory/watched"
}

start_weir 'idle = "sleep"'
find_capacity
stop_weir

say "Measuring: $flows flows, medians of $runs runs of $seconds s; packets a second, times one way in µs, percent of a core"
order=$modes
for ((run = 0; run < runs; run++)); do
    for mode in $order; do
        start_weir "$(settings "$mode")"
        for load in $loads; do measure "$load" >>"$directory/$mode-$load"; done
        stop_weir
    done
    # shellcheck disable=SC2086 # a word a mode
    order=$(reversed $order)
done
for load in $loads; do
    for mode in $modes; do
        # shellcheck disable=SC2046 # a word a number
        echo "$load" "$mode" $(for n in 1 2 3 4 5 6 7 8; do column "$n" "$directory/$mode-$load"; done) \
            "$(shortfall "$(column 1 "$directory/$mode-$load")" "$((capacity * load / 100))")"
    done
done >"$directory/table"
printf '%6s %-15s %9s %9s %8s %9s %9s %9s %8s %8s\n' load mode sent received lost p50 p99 p99.9 weir "core 1"
awk "$remark"'{
    printf "%4d %% %-15s %9.0f %9.0f %6.2f %% %9.1f %9.1f %9.1f %6.2f %% %6.1f %%%s\n", $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, remark(11)
}' "$directory/table"
good=yes
awk '$1 == 0 && $2 == "sleep" {
    printf "\nweir with nothing to do, in the default mode: %.3f %% of a core (less than 1: %s)\n", $9, $9 < 1 ? "yes" : "NO"
    exit !($9 < 1)
}' "$directory/table" || good=
! short 11 || good='' plot=

# Two panels over the loads: weir's share of a core, and the times, p50 drawn through and p99 dashed.
[ -z "$plot" ] || awk -v names="$modes" "$(cat scripts/plot.awk)"'
    BEGIN { count = split(names, name, " "); groups = split("0 1 10 100", load, " "); for (at in load) x[load[at]] = place(at, groups) }
    { cpu[$2] = cpu[$2] x[$1] "," even(24, $9, 100) " " }
    $1 > 0 { p50[$2] = p50[$2] x[$1] "," power(304, $6, 1, 10000) " "; p99[$2] = p99[$2] x[$1] "," power(304, $7, 1, 10000) " " }
    END {
        picture(720, 600)
        even_panel(24, "weir, % of a core", 100)
        power_panel(304, "time one way, µs: p50, p99 dashed", 1, 10000)
        for (i = 1; i <= count; i++) { line(cpu[name[i]], colour(i)); line(p50[name[i]], colour(i)); dashed(p99[name[i]], colour(i)) }
        for (at = 1; at <= groups; at++) { under(24, x[load[at]], load[at]); under(304, x[load[at]], load[at]) }
        text(360, 556, "middle", "offered, % of the capacity")
        legend(584, names)
        finish()
    }' "$directory/table" >"$plot"
[ -n "$good" ] || exit 1
