# Sourced by zero-copy-vm.sh: runs a guest. Its cards come in pairs, back to back; a card is known by its address 02:00:00:00:PAIR:END,
# where end 01 is weir's.
# shellcheck shell=bash

# Seconds that a guest may take: what all of them together may with an empty cache. One that takes longer is killed, and has failed.
LIMIT=${LIMIT:-600}

# hub PAIR : two ends of a wire inside QEMU.
hub() { echo "-netdev hubport,id=wire$1.1,hubid=$1 -netdev hubport,id=wire$1.2,hubid=$1"; }

# virtio PAIR END [PROPERTY...] : a virtio_net card.
virtio() {
    local pair=$1 end=$2
    shift 2
    echo "-device virtio-net-pci,netdev=wire$pair.$end,mac=02:00:00:00:0$pair:0$end,romfile=$(printf ',%s' "$@")"
}

# What virtio_net needs for zero-copy: version 1 of the standard, and that the card's memory is mapped by the DMA interface.
ZERO_COPY="disable-legacy=on iommu_platform=on"

# igb PAIR : an 82576, behind a port of its own as its MSI-X vectors want.
igb() { echo "-device pcie-root-port,id=port$1,chassis=$1,slot=$1 -device igb,bus=port$1,netdev=wire$1.1,mac=02:00:00:00:0$1:01,romfile="; }

# tap PAIR END QUEUES : the wire ends in a tap device of QEMU's own network namespace.
tap() {
    local queues=''
    [ "$3" -eq 1 ] || queues=,queues=$3
    echo "-netdev tap,id=wire$1.$2,ifname=tap$1.$2,script=no,downscript=no$queues"
}

# bridges PAIR... : in this network namespace, which is QEMU's own.
bridges() {
    local pair
    for pair in "$@"; do
        ip link add "wire$pair" type bridge forward_delay 0 mcast_snooping 0
        ip tuntap add "tap$pair.1" mode tap multi_queue
        ip tuntap add "tap$pair.2" mode tap
        ip link set "tap$pair.1" master "wire$pair" up
        ip link set "tap$pair.2" master "wire$pair" up
        ip link set "wire$pair" up
    done
}

# cards GUEST : QEMU's arguments, a line each. Pairs 0 and 1 are the wires of weir's two arms, 2 and 3 are so of cards without zero-copy.
cards() {
    # shellcheck disable=SC2086 # properties are words
    case $1 in
    virtio* | comparison)
        local pair
        for pair in 0 1; do hub $pair; virtio $pair 1 $ZERO_COPY; virtio $pair 2; done
        [ "$1" != virtio ] || for pair in 2 3; do hub $pair; virtio $pair 1; virtio $pair 2; done
        ;;
    igb*) for pair in 0 1; do hub $pair; igb $pair; virtio $pair 2; done ;;
    channels) for pair in 0 1; do tap $pair 1 8; tap $pair 2 1; virtio $pair 1 $ZERO_COPY mq=on vectors=18; virtio $pair 2; done ;;
    rss) for pair in 0 1; do tap $pair 1 4; tap $pair 2 1; virtio $pair 1 $ZERO_COPY mq=on rss=on vectors=10; virtio $pair 2; done ;;
    esac
}

# An emulator does `rep stosb` and `rep movsb` a byte at a time; without these flags the kernel and the C library take other ways. Opening
# and closing user memory (SMAP) ends a translated block each time, and a fifth level of page tables is one more to walk: an eighth of the CPU.
CPU=max,-erms,-fsrm,-fzrm,-fsrs,-fsrc,-smap,-smep,-la57,-pku,-umip

# Pages are cleared once, by who needs them so, and not two megabytes of them at once.
MEMORY="init_on_alloc=0 transparent_hugepage=never"

# What the kernel counts, guards and asks about beside its work: every instruction is dear. The lockup detector stays, but shall not take a
# machine that pauses for half a minute for a kernel that hangs.
KERNEL="lsm=capability preempt=none psi=0 cgroup_disable=memory randomize_kstack_offset=off hardened_usercopy=off rcupdate.rcu_expedited=1 watchdog_thresh=60"

# start_guest GUEST [WORD] : runs it in the background, its console goes to $directory/GUEST.log.
start_guest() {
    local guest=$1 vmlinuz cpus=1 niceness=5
    # Another emulated CPU costs more than it gives, but workers shall meet.
    case $guest in igb | igb-ends) cpus=2 ;; esac
    # Those with a bound in time go before those without.
    case $guest in *-ends) niceness=0 ;; esac
    vmlinuz=$(find "$kernel" -name 'vmlinuz*' -print -quit)
    rm -f "target/zero-copy-vm/$guest.log"
    echo "guest $guest: started (kernel $release)"
    local command=(timeout --kill-after 5 "$LIMIT" nice -n $niceness bash -c "TIMEFORMAT='guest: CPU %U s user, %S s system'; time \"\$@\"" guest
        qemu-system-x86_64
        -L "$tools/usr/share/qemu" -L "$tools/usr/share/seabios" -nodefaults -no-user-config -no-reboot -display none -serial stdio
        -accel tcg,thread=multi -machine q35 -cpu $CPU -smp $cpus -m 1536
        -kernel "$vmlinuz" -initrd "$directory/image"
        -append "console=ttyS0 loglevel=5 panic=-1 oops=panic mitigations=off random.trust_cpu=on net.ifnames=0 tsc=reliable tsc_early_khz=$tsc_khz no_timer_check audit=0 $MEMORY $KERNEL -- $*")
    # shellcheck disable=SC2207 # words are meant
    command+=($(cards "$guest"))
    # A network namespace of its own: nothing in it but what `bridges` makes. Nothing of it outlives this script, however that ends.
    (
        export_tools
        exec setpriv --pdeathsig KILL unshare --net --pid --fork --kill-child bash -c "$(declare -f bridges); case $guest in channels | rss) bridges 0 1 ;; esac; exec \"\$@\"" guest "${command[@]}"
    ) >"$directory/$guest.log" 2>&1 </dev/null &
    running[$!]=$guest
}

# conclude GUEST RESULT : shows its console, and fails unless it ended well. RESULT is the exit code of its timeout(1).
conclude() {
    local guest=$1 result=$2 log=$directory/$1.log
    sed -i 's/\r$//' "$log"
    say "Guest $guest"
    # The kernel's own lines only where something failed.
    if grep -q '^guest: ended with 0 ' "$log"; then
        grep -v -e '^\[ *[0-9.]*\] ' -e ': warning: hub ' "$log"
        return
    fi
    cat "$log"
    mkdir -p target/zero-copy-vm
    cp "$log" "target/zero-copy-vm/$guest.log"
    case $result in
    124 | 137) echo "guest $guest: it did not end within $LIMIT s" ;;
    *) grep -q '^guest: ended with ' "$log" || echo "guest $guest: it crashed" ;;
    esac
    echo "guest $guest failed; its serial log is target/zero-copy-vm/$guest.log"
    return 1
}

# run_guests GUEST... : one more at a time than there are CPUs, for igb-ends and comparison mostly wait. The first that fails ends all.
run_guests() {
    local guest ended result
    for guest in "$@" ''; do
        while [ ${#running[@]} -gt "$(nproc)" ] || [ -z "$guest" -a ${#running[@]} -gt 0 ]; do
            result=0
            wait -n -p ended "${!running[@]}" || result=$?
            local finished=${running[$ended]}
            unset "running[$ended]"
            conclude "$finished" "$result"
        done
        # shellcheck disable=SC2086 # no word or one
        [ -z "$guest" ] || start_guest "$guest" $only
    done
}
