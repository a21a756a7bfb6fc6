# Sourced behind packages.sh by scripts that take options: their help, and values that are looked at before anything is built or made.
# shellcheck shell=bash

# help : what the head of the script says.
help() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; exit 0; }
# usage WORD : of a script that knows no such option.
usage() {
    printf '%s: "%s" is no option\n' "${0##*/}" "$1" >&2
    sed -n '2s/^# /usage: /p' "$0" >&2
    exit 2
}

# refuse ALLOWED OPTION [VALUE]...
refuse() {
    local found="no value"
    [ $# -lt 3 ] || found="\"$3\""
    printf '%s: %s: found %s; allowed: %s\n' "${0##*/}" "$2" "$found" "$1" >&2
    exit 2
}

# What an option may have behind it. Each of these takes what it allows, then the option and the rest of the command line, and prints the value; anything
# else is refused: `--runs) runs=$(whole 1 1000 "$@"); shift ;;`.

# is_whole LOWEST HIGHEST TEXT : few digits, and none in front that bash would take for octal.
is_whole() { [[ $3 =~ ^(0|[1-9][0-9]{0,8})$ ]] && [ "$3" -ge "$1" ] && [ "$3" -le "$2" ]; }

whole() {
    is_whole "$1" "$2" "${4:-}" || refuse "a whole number from $1 to $2" "${@:3}"
    echo "$4"
}

decimal() {
    { [[ ${4:-} =~ ^[0-9]{1,6}(\.[0-9]{1,6})?$ ]] && awk "BEGIN { exit !($4 >= $1 && $4 <= $2) }"; } || refuse "a number from $1 to $2" "${@:3}"
    echo "$4"
}

# counts LOWEST HIGHEST : whole numbers, which may have a k or an M behind them, with spaces or commas between them; prints digits and spaces.
counts() {
    local allowed="whole numbers from $1 to $2 such as \"500 10k\"" count numbers=()
    [[ ${4:-} =~ ^[0-9]+[kM]?([ ,][0-9]+[kM]?)*$ ]] || refuse "$allowed" "${@:3}"
    for count in ${4//,/ }; do
        count=${count/%k/000}
        count=${count/%M/000000}
        is_whole "$1" "$2" "$count" || refuse "$allowed" "${@:3}"
        numbers+=("$count")
    done
    echo "${numbers[*]}"
}

one_of() {
    local word
    for word in $1; do [ "$word" != "${3:-}" ] || { echo "$word"; return; }; done
    refuse "one of: $1" "${@:2}"
}

# words MEANING : whatever is not empty, and is no option.
words() {
    case ${3:-} in '' | -*) refuse "$1" "${@:2}" ;; esac
    printf '%s\n' "$3"
}

# new_file : one that can be written.
new_file() {
    local allowed="a file in a directory that can be written" file
    file=$(words "$allowed" "$@") || exit
    { [ -w "$(dirname "$file")" ] && [ ! -d "$file" ]; } || refuse "$allowed" "$@"
    printf '%s\n' "$file"
}

program() {
    local allowed="a program" file
    file=$(words "$allowed" "$@") || exit
    { [ -f "$file" ] && [ -x "$file" ]; } || refuse "$allowed" "$@"
    realpath "$file"
}
