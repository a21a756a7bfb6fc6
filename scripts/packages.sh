# Sourced by the other scripts: installs missing Debian packages and finds the Rust toolchain.
# shellcheck shell=bash disable=SC2034 # BUILD_PACKAGES is for who calls

say() { if [ -t 1 ]; then printf '\n\033[1m%s\033[0m\n' "$*"; else printf '\n%s\n' "$*"; fi; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" -eq 0 ] || die "needs root, for network namespaces and XDP: sudo $0"; }

# What the build needs: the XDP program is compiled by clang, libxdp and libbpf (inside xsk-rs) by gcc.
BUILD_PACKAGES="gcc libc6-dev make pkg-config libelf-dev zlib1g-dev m4 clang"

# install_missing PACKAGE... : apt-get without questions; does nothing, and needs no network, when all are there.
install_missing() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (and no apt-get here to install them)"
    say "Installing ${missing[*]}"
    # Services of these packages (nginx, haproxy) must not start on this machine: scripts and tests run their own, in namespaces of their own.
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes
    fi
    local result=0
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; } ||
        result=$?
    [ -z "$made" ] || rm -f "$policy"
    local service
    for service in nginx haproxy; do
        case " ${missing[*]} " in
        *" $service"*) if [ -d /run/systemd/system ]; then systemctl disable --quiet "$service" 2>/dev/null || true; fi ;;
        esac
    done
    [ "$result" -eq 0 ] || die "apt-get could not install ${missing[*]}"
}

# find_rust : puts cargo on the PATH. Under sudo that is the cargo of the user who called it.
find_rust() {
    local home wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    if [ -n "${SUDO_USER:-}" ]; then
        home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
        if [ -x "$home/.cargo/bin/cargo" ]; then
            export CARGO_HOME="$home/.cargo" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}" PATH="$home/.cargo/bin:$PATH"
        fi
    fi
    command -v cargo >/dev/null || PATH="$HOME/.cargo/bin:$PATH"
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2) || true
    if [ -z "$found" ] || [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -1)" != "$wanted" ]; then
        cat >&2 <<HELP
$(basename "$0"): weir needs Rust $wanted or newer; found: ${found:-none}.
Debian's own rustc is older. Install the toolchain from https://rustup.rs as your own user (apt-get install rustup
where the release has it, then: rustup default stable), or update it with: rustup update stable
Then call this script again.
HELP
        exit 1
    fi
}

# give_back : what root built in the checkout and in the user's cargo directory belongs to the user again.
give_back() {
    if [ -n "${SUDO_UID:-}" ] && [ "${SUDO_UID}" != 0 ]; then
        chown -R --no-dereference "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" target 2>/dev/null || true
        [ -z "${CARGO_HOME:-}" ] || chown -R --no-dereference "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$CARGO_HOME" 2>/dev/null || true
    fi
}
