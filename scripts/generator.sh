# Sourced behind laboratory.sh by scripts whose packets `weir pktgen` makes, from c0 through weir to s0.
# shellcheck shell=bash disable=SC2154 # they are of workplace.sh

# generate ARGUMENT... : the answer is in $directory/answer.json; replaces the shell, so that who has started it can end it.
generate() {
    exec "$weir" pktgen --namespace "$prefix-weir-client" --interface c0 --sink-namespace "$prefix-weir-server" --sink s0 --to 02:00:00:00:00:22 \
        --json "$@" >"$directory/answer.json"
}

# no_measurement WHAT : the generator has said why; what it asked of weir may be the reason.
no_measurement() { die "$1 was not measured: the generator failed. The last that weir said: $(tail -3 "$directory/weir.log")"; }

# shortfall OFFERED ASKED : nothing, if so many packets a second are 95 % of those at least; else how many they are. On a busy machine the generator has not
# its core to itself, and what comes of a load that nobody offered says nothing.
shortfall() {
    awk -v offered="$1" -v asked="$2" 'BEGIN { if (offered < 0.95 * asked) printf "<- offered: %.0f %% of %d\n", 100 * offered / asked, asked }'
}
