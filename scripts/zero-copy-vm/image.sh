# Sourced by zero-copy-vm.sh: makes the guest's root, an initramfs out of the kernel's modules and of programs of this machine.
# shellcheck shell=bash

# Loaded when something asks for them, as on any Debian: veth, bridge, 8021q, netfilter and IPVS by the kernel, the cards' by init.
MODULES="virtio_net igb veth bridge 8021q nf_tables nft_chain_nat nft_ct nft_nat nft_masq nft_numgen nft_compat nft_reject_inet
    nf_conntrack nf_nat ip_vs ip_vs_rr xsk_diag pktgen"
# Programs of the tests. busybox does the rest.
PROGRAMS="curl ethtool ip iperf3 nft nginx ping tcpdump"

# build_tests : sets $tests, the test program of the guest, and $weir.
build_tests() {
    say "Building weir and the tests of the guest"
    cargo test --quiet --test zero_copy --no-run
    tests=$(cargo test --quiet --test zero_copy --no-run --message-format=json 2>/dev/null |
        sed -nE '/"name":"zero_copy"/s/.*"executable":"([^"]+)".*/\1/p')
    weir=${binary:-target/debug/weir}
    [ -x "$tests" ] || die "cargo did not say where it put the test program"
    [ -x "$weir" ] || die "there is no $weir"
}

# build_image FILE : the initramfs.
build_image() {
    local root=$directory/root program applet
    mkdir -p "$root"/{dev,etc,proc,run,sys,tmp,root,usr/{bin,lib,lib64,sbin},"usr/lib/modules/$release",var/log/nginx,var/lib/nginx}
    for program in bin lib lib64 sbin; do ln -s "usr/$program" "$root/$program"; done
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    echo 'root:x:0:' >"$root/etc/group"
    cp /etc/protocols /etc/services "$root/etc/" 2>/dev/null || true
    install -m 755 scripts/zero-copy-vm/init "$root/init"
    add_modules "$root"
    for program in $PROGRAMS; do add_program "$root" "$(with_tools which "$program")"; done
    add_program "$root" "$(with_tools which ipvsadm)"
    add_program "$root" "$(with_tools which busybox)"
    for applet in $(with_tools busybox --list); do
        [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
    done
    ln -sf ../bin/busybox "$root/usr/sbin/modprobe" # where the kernel looks
    add_program "$root" "$weir" weir
    add_program "$root" "$tests" tests
    (cd "$root" && find . | with_tools busybox cpio -o -H newc -R 0:0 2>/dev/null) >"$1"
    rm -rf "$root"
}

# add_program ROOT FILE [NAME] : with the libraries that it is linked with. Debugging symbols stay here.
add_program() {
    local root=$1 file=$2 name=${3:-$(basename "$2")} library
    [ -x "$file" ] || die "a program of the guest is missing: ${file:-$name}"
    if command -v strip >/dev/null && [ -n "${3:-}" ]; then
        strip --strip-debug -o "$root/usr/bin/$name" "$file"
    else
        cp -L "$file" "$root/usr/bin/$name"
    fi
    for library in $(with_tools ldd "$file" 2>/dev/null | sed -nE 's/^.*(=> |\t)(\/[^ ]+) .*/\2/p'); do
        # The loader where programs look for it, all others in one place.
        case $library in
        /lib64/*) cp -L "$library" "$root/lib64/" ;;
        *) cp -L "$library" "$root/usr/lib/" ;;
        esac
    done
}

# add_modules ROOT : decompressed, with what they depend on.
add_modules() {
    local root=$1 module file to
    [ -e "$kernel/usr/lib/modules/$release/modules.dep" ] || with_tools depmod -b "$kernel" "$release"
    for module in $MODULES; do
        with_tools modprobe -d "$kernel" -S "$release" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod //p' |
            sed 's/ *$//' || die "the kernel $release has no $module"
    done | sort -u | while read -r file; do
        to=$root/usr/lib/modules/$release/${file#*/modules/"$release"/}
        mkdir -p "$(dirname "$to")"
        case $file in
        *.xz) xz -dc "$file" >"${to%.xz}" ;;
        *.zst) zstd -dqc "$file" >"${to%.zst}" ;;
        *) cp "$file" "$to" ;;
        esac
    done
    cp "$kernel/usr/lib/modules/$release"/modules.{order,builtin*} "$root/usr/lib/modules/$release/"
    with_tools depmod -b "$root" "$release"
}
