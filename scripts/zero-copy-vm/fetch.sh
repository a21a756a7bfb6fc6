# Sourced by zero-copy-vm.sh: gets QEMU, a few programs and a kernel from the Debian mirror that this machine uses, and unpacks them in a
# cache. apt checks every file against the signed lists. Nothing is installed: the package lists are private ones, too.
# shellcheck shell=bash

cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weir/zero-copy-vm
# Those that this machine has already are taken from it. ipvsadm is for the guest.
TOOLS="qemu-system-x86 busybox-static kmod ipvsadm"
# QEMU's igb, the 82576 with its RSS queues, came with version 8.0.
QEMU_VERSION=8
# The drivers whose zero-copy is shown, and what both must call for it.
DRIVERS="igb virtio_net"
ZERO_COPY_SYMBOL=xp_dma_map

# skip WHY : the packages cannot be had. scripts/test.sh knows this exit code.
skip() { printf 'SKIP zero-copy-vm: %s\n' "$*"; exit 77; }

# lists NAME SUITE... : fetches the package lists of these suites. Fails where the mirror has no such suite, or is not there.
lists() {
    local directory=$cache/lists-$1 suite
    shift
    mkdir -p "$directory/state/partial" "$directory/archives/partial"
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
    done >"$directory/sources.list"
    apt_of "$(basename "${directory#*lists-}")" apt-get -qq update --allow-releaseinfo-change -o APT::Update::Error-Mode=any 2>"$directory/log"
}

# reason NAME : why these lists could not be fetched, in apt's words.
reason() { grep -m1 -i -e 'could not' -e 'temporary failure' -e '^E:' "$cache/lists-$1/log" || echo "apt-get says nothing"; }

# apt_of NAME COMMAND... : an apt command over these lists alone.
apt_of() {
    local directory=$cache/lists-$1 command=$2
    shift 2
    "$command" -o Dir::Etc::SourceList="$directory/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::Etc::Preferences=- -o Dir::Etc::PreferencesParts="$directory/archives/partial" \
        -o Dir::State::Lists="$directory/state" -o Dir::Cache="$directory" \
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=2 "$@"
}

# packages_named NAME PACKAGE[=VERSION]... : downloads them; apt checks their hashes. They lie in $staging.
packages_named() {
    local name=$1
    shift
    (cd "$staging" && apt_of "$name" apt-get -qq download "$@") || return 1
}

# unpacked DIRECTORY : what $staging holds goes there in one step, so that nobody sees half of it.
unpacked() {
    rm -rf "$1"
    mv "$staging/tree" "$1"
    rm -rf "$staging"
    staging=
}

# fetch_tools : sets $tools, where the programs are that this machine lacks.
fetch_tools() {
    local codename packages from=()
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    tools=$cache/tools-$codename
    if [ -d "$tools" ] && [ -z "$refresh" ]; then return; fi
    say "Getting QEMU and what it needs ($codename)"
    if lists tools "$codename" "$codename-updates" "$codename-backports"; then
        from=(-t "$codename-backports")
    else
        lists tools "$codename" "$codename-updates" ||
            skip "no package lists of $codename from $mirror: $(reason tools)"
    fi
    # shellcheck disable=SC2086 # one word a package
    packages=$(apt_of tools apt-get install --simulate --no-install-recommends "${from[@]}" $TOOLS 2>/dev/null |
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+) .*/\1=\3/p') || skip "$mirror has no QEMU for $codename"
    staging=$(mktemp -d "$cache/staging-XXXXXX")
    mkdir "$staging/tree"
    # shellcheck disable=SC2086
    [ -z "$packages" ] || packages_named tools $packages || skip "$mirror does not give $packages"
    unpack_all "$staging/tree"
    unpacked "$tools"
}

unpack_all() {
    local package link
    for package in "$staging"/*.deb; do
        [ ! -e "$package" ] || dpkg -x "$package" "$1"
    done
    # Links such as /sbin/depmod -> /bin/kmod lead out of the tree.
    find "$1" -type l -lname '/*' -printf '%p %l\n' | while read -r link package; do
        [ ! -e "$1$package" ] || ln -sfr "$1$package" "$link"
    done
}

# with_tools COMMAND... : runs a program of $tools, or of this machine.
with_tools() { (export_tools && exec "$@"); }

# export_tools : for the rest of this shell, programs of $tools go before those of this machine.
export_tools() {
    export PATH=$tools/usr/sbin:$tools/usr/bin:$tools/sbin:$tools/bin:/usr/sbin:/sbin:$PATH
    export LD_LIBRARY_PATH=$tools/usr/lib/x86_64-linux-gnu:$tools/lib/x86_64-linux-gnu
}

# fetch_kernel : sets $kernel, where the newest kernel is whose drivers have zero-copy, and $release, its name.
fetch_kernel() {
    kernel=$cache/kernel
    if [ ! -d "$kernel" ] || [ -n "$refresh" ]; then find_kernel; fi
    release=$(basename "$kernel"/usr/lib/modules/*)
    [ -n "$(find "$kernel" -name 'vmlinuz*' -print -quit)" ] && has_zero_copy "$kernel" ||
        die "the kernel in $kernel is not whole: call again with --refresh, or remove $cache"
}

# Suites of the mirror that are asked for a kernel.
SUITES="stable-backports stable testing"

find_kernel() {
    local suite package found=()
    say "Getting a kernel"
    for suite in $SUITES; do
        if lists "$suite" "$suite"; then found+=("$suite"); else echo "no package lists of $suite from $mirror"; fi
    done
    [ ${#found[@]} -gt 0 ] || skip "no package lists from $mirror: $(reason "$suite")"
    # The newest three: what they lack, older ones lack, too.
    while read -r _ package suite; do
        echo "$package of $suite"
        staging=$(mktemp -d "$cache/staging-XXXXXX")
        mkdir "$staging/tree"
        # shellcheck disable=SC2046 # one word a package
        packages_named "$suite" $(parts_of "$suite" "$package") || skip "$mirror does not give $package"
        unpack_kernel "$staging/tree"
        if has_zero_copy "$staging/tree"; then
            unpacked "$kernel"
            return
        fi
        echo "its drivers ($DRIVERS) have no zero-copy"
        rm -rf "$staging"
        staging=
    done < <(for suite in "${found[@]}"; do kernels_in "$suite"; done | sort -rV | head -3)
    skip "$mirror has no kernel whose drivers $DRIVERS have zero-copy (6.14 or newer)"
}

# kernels_in SUITE : kernel packages of the full flavour, which has igb: a line of version, package and suite each.
kernels_in() {
    local package
    apt_of "$1" apt-cache pkgnames linux-image- | grep -E '^linux-image-[0-9][^-]*(-[0-9]+)?-amd64$' | while read -r package; do
        echo "$(apt_of "$1" apt-cache show --no-all-versions "$package" | sed -n 's/^Version: //p') $package $1"
    done
}

# parts_of SUITE PACKAGE : the package, and those of the same source that it consists of.
parts_of() {
    echo "$2"
    apt_of "$1" apt-cache depends --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances "$2" |
        sed -nE 's/^ *Depends: (linux-[a-z]+-[0-9].*)$/\1/p'
}

# Only what the guest may need: of 600 MB some 30.
unpack_kernel() {
    local package
    for package in "$staging"/*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar -x -C "$1" --wildcards --no-anchored \
            'boot/vmlinuz*' 'modules/*/vmlinuz' 'modules.builtin*' 'modules.order' \
            'kernel/net/*' 'kernel/lib/*' 'kernel/crypto/*' 'kernel/arch/*' 'kernel/drivers/net/*.ko*' 'kernel/drivers/net/ethernet/intel/igb/*' \
            'kernel/drivers/i2c/*' 'kernel/drivers/dca/*' 'kernel/drivers/ptp/*' 'kernel/drivers/pps/*' 2>"$staging/log" ||
            only_absent "$package"
        rm "$package"
    done
    # Where the kernel's package still has /lib.
    if [ -d "$1/lib" ]; then mkdir -p "$1/usr" && mv "$1/lib" "$1/usr/lib"; fi
    ln -s usr/lib "$1/lib"
}

# only_absent PACKAGE : unpacking failed for nothing but names that this package does not have, and tar's summary of it.
only_absent() {
    ! grep -v -e ': Not found in archive$' -e 'Exiting with failure status due to previous errors$' "$staging/log" >&2 ||
        die "$(basename "$1") cannot be unpacked"
}

has_zero_copy() {
    local driver module
    for driver in $DRIVERS; do
        module=$(find "$1/usr/lib/modules" -name "$driver.ko*" -print -quit)
        [ -n "$module" ] || return 1
        case $module in
        *.xz) xz -dc "$module" ;;
        *.zst) zstd -dqc "$module" ;;
        *) cat "$module" ;;
        esac | grep "$ZERO_COPY_SYMBOL" >/dev/null || return 1
    done
}

# fetch : everything; only one run at a time.
fetch() {
    [ "$(uname -m)" = x86_64 ] || skip "the emulated machine is an x86_64, this one is not"
    command -v apt-get >/dev/null || skip "there is no apt-get here to get QEMU and a kernel with"
    mkdir -p "$cache"
    exec 8>"$cache/lock"
    flock 8
    rm -rf "$cache"/staging-* # of a run that was killed
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 2>/dev/null | grep -m1 '/debian/$') ||
        mirror=http://deb.debian.org/debian/
    fetch_tools
    fetch_kernel
    rm -rf "$cache"/lists-*
    flock -u 8
    local version
    version=$(with_tools qemu-system-x86_64 --version | sed -nE '1s/.*version ([0-9]+).*/\1/p') || true
    [ -n "$version" ] || die "QEMU in $tools does not run: call again with --refresh, or remove $cache"
    [ "$version" -ge "$QEMU_VERSION" ] || skip "QEMU $version is there, igb came with $QEMU_VERSION (--refresh asks the mirror again)"
}
