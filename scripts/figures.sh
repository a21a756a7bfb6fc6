# Sourced by scripts that measure several things in turns: the order of turns, and medians of what came out. A file of figures has a line a run.
# shellcheck shell=bash

# reversed WORD... : the order of the next run.
reversed() { printf '%s\n' "$@" | tac; }

median() { sort -g | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'; }
# column N FILE : that figure's median.
column() { awk -v n="$1" '{ print $n }' "$2" | median; }
# ratio N OF BY : the median of that figure's ratios, run by run; 0 where there is nothing to divide by.
ratio() { paste -d' ' "$2" "$3" | awk -v n="$1" '{ by = $(n + NF / 2); print by ? $n / by : 0 }' | median; }
