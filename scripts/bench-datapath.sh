#!/usr/bin/env bash
# scripts/bench-datapath.sh [--quick] [--rounds N] [--flows 10k,1M,10M] [--family ipv4,ipv6] [--tables 10k,1M,10M] [--plot FILE.svg]
#
# What a packet of an established connection costs from memory, on one core (`weir bench`; no root, no NIC):
#
#   datapath  a TCP frame of 64 bytes through all of it, by families and by how many connections there are (--flows), beside its floor,
#             which is touching two random cache lines of tables as large
#   tables    finding its connection alone, over IPv4: in weir's table and in the maps that one would take instead, beside the floor. All are in memory
#             at once, which is 5 GB with 10 million connections, so their numbers are told apart (--tables)
#
# Each figure is the median of N rounds (9), in which what is beside it takes turns with it. --plot draws both by connections.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/packages.sh
. scripts/options.sh
. scripts/workplace.sh

rounds=9 flows=10k,1M,10M families=ipv4,ipv6 tables=10k,1M,10M plot=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) rounds=1 flows=10k,1M tables=10k,1M ;;
    --rounds) rounds=$(whole 1 1000 "$@"); shift ;;
    --flows) flows=$(counts 64 60000000 "$@" | tr " " ,); shift ;;
    --family) families=$(one_of "ipv4 ipv6 ipv4,ipv6 ipv6,ipv4" "$@"); shift ;;
    --tables) tables=$(counts 64 60000000 "$@" | tr " " ,); shift ;;
    --plot) plot=$(new_file "$@"); shift ;;
    -h | --help) help ;;
    *) usage "$1" ;;
    esac
    shift
done

# shellcheck disable=SC2086 # one word a package
install_missing $BUILD_PACKAGES jq
open_workplace datapath
build_weir

say "Measuring the datapath: medians of $rounds rounds; ns a packet, million new connections a second"
"$weir" bench --family "$families" --flows "$flows" --rounds "$rounds" --json >"$directory/datapath.json"
jq -r '.results | (map(select(.family == "ipv4") | { key: "\(.flows)", value: .packet_ns }) | from_entries) as $ipv4 | .[] |
    [.family, .flows, .packet_ns, .floor_ns, .ratio, .new_kcps / 1000, if $ipv4["\(.flows)"] then .packet_ns / $ipv4["\(.flows)"] else "-" end] | @tsv' \
    "$directory/datapath.json" >"$directory/datapath"
printf '%-6s %9s %8s %8s %13s %8s %13s\n' family flows packet floor packet/floor new packet/ipv4
awk '{ printf "%-6s %9d %8.1f %8.1f %13.2f %8.2f %13s\n", $1, $2, $3, $4, $5, $6, $7 == "-" ? $7 : sprintf("%.2f", $7) }' "$directory/datapath"

say "Measuring the tables: medians of $rounds rounds; ns a packet, and how many times the floor"
# weir asks for transparent huge pages; glibc asks for them for the maps.
GLIBC_TUNABLES=glibc.malloc.hugetlb=1 "$weir" bench tables --flows "$tables" --rounds "$rounds" --json >"$directory/tables.json"
jq -r '.results[] | [.table, .flows, .packet_ns, .ratio] | @tsv' "$directory/tables.json" >"$directory/tables"
printf '%-16s %9s %8s %13s\n' table flows packet packet/floor
awk '{ printf "%-16s %9d %8.1f %13.2f\n", $1, $2, $3, $4 }' "$directory/tables"

# Two panels over the connections: the datapath, and the tables on a logarithmic scale.
[ -z "$plot" ] || awk "$(cat scripts/plot.awk)"'
    function short(count) { return count < 1e6 ? count / 1e3 " k" : count / 1e6 " M" }
    # number NAME LIST : its place there; the end, if it is new.
    function number(name, list) {
        if (!((name, "at") in list)) { list[name, "at"] = ++list[0]; list[list[0]] = name }
        return list[name, "at"]
    }
    function words(list,    i, all) { for (i = 1; i <= list[0]; i++) all = all " " list[i]; return all }
    # panel_of TOP COUNTS NAMES Y : the lines, what is below them, and whose they are.
    function panel_of(top, counts, names, y,    i, label) {
        for (i = 1; i <= counts[0]; i++) label[i] = short(counts[i])
        courses(top, counts[0], label, names[0], y)
        legend(top + 260, words(names))
    }
    FILENAME ~ /tables$/ { found[number($2, sizes), number($1, tables)] = $3; next }
    { sub(/^ip/, "IP"); load = number($2, loads); packet[load, number($1 "-floor", ways)] = $4; packet[load, number($1, ways)] = $3 }
    END {
        picture(720, 610)
        most = greatest(packet)
        even_panel(24, "the datapath, ns a packet, by connections", most)
        for (at in packet) packet[at] = even(24, packet[at], most)
        panel_of(24, loads, ways, packet)
        last = 10
        while (last < greatest(found)) last *= 10
        power_panel(334, "finding the connection alone (IPv4), ns a packet", 1, last)
        for (at in found) found[at] = power(334, found[at], 1, last)
        panel_of(334, sizes, tables, found)
        finish()
    }' "$directory/datapath" "$directory/tables" >"$plot"
