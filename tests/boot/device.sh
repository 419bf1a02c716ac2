# shellcheck shell=bash
# A device with a disk, power and systemd: a container whose root is an ext4 of its own. Whatever happens, nothing of it stays: its
# disk is mounted in a namespace of the test alone, where nobody else can come to hold it, and which ends with the test.

root=
nspawn=
leader=
machine=fieldsync-boot-$$
# On a machine without systemd there is no unit to make for the container.
unit=()
[ -d /run/systemd/system ] || unit=(--keep-unit)

# Why no device can boot here; nothing when it can.
cannot_boot() {
    local why
    why=$(cannot_lay_out)
    [ -z "$why" ] || { echo "$why"; return; }
    losetup -f >/dev/null 2>&1 || { echo "there is no loop device on this machine"; return; }
    command -v mkfs.ext4 >/dev/null || { echo "there is no mkfs.ext4 on this machine"; return; }
}

# Lays out a Debian on a disk, in $root.
make_device() {
    local debian
    debian=$(base)
    room=$(mktemp -d "$repository/target/boot/run.XXXX")
    trap clear_away EXIT
    root=$room/root
    mkdir "$root"
    truncate --size=2G "$room/disk"
    mkfs.ext4 -q -F "$room/disk"
    mount -o loop "$room/disk" "$root"
    tar -C "$root" -xf "$debian"
    # The journal has to outlive the loss of power.
    mkdir -p "$root/var/log/journal"
    : >"$room/acknowledged"
}

clear_away() {
    local status=$?
    if [ "$status" != 0 ]; then
        echo "failed; the last words of the device:"
        tail -n 20 "$room/console" 2>/dev/null | sed 's/^/      /'
        [ -z "$leader" ] || inside journalctl --unit=fieldsync --no-pager --lines=30 2>/dev/null | sed 's/^/      /'
    fi
    stop_at_once
    ! mountpoint --quiet "$root" || umount "$root" || umount --lazy "$root"
    rm -rf "$room"
}

# Runs a command in the device, as root.
inside() { nsenter --target "$leader" --mount --uts --ipc --net --pid -- "$@"; }

is_booted() { leader=$(pgrep --parent "$nspawn") && [ "$(cat "/proc/$leader/comm")" = systemd ] && is_up; }
is_up() { has "$(inside systemctl is-system-running 2>&1)" '^\(running\|degraded\)$'; }
is_well() { same "$(inside systemctl --failed --no-legend)" ""; }

boot() {
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" --machine="$machine" \
        --private-network --register=no "${unit[@]}" --console=pipe </dev/null >>"$room/console" 2>&1 &
    nspawn=$!
    comes "systemd is up as PID 1" is_booted
}

# The container's first process takes all the others along.
stop_at_once() {
    [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
    [ -z "$nspawn" ] || { kill -KILL "$nspawn" 2>/dev/null || true; wait "$nspawn" 2>/dev/null || true; }
    leader='' nspawn=''
}

# Nobody holds the disk any more: mounted before that, it would be the one that failed.
is_free() {
    ! mountpoint --quiet "$root" || umount "$root" || return
    same "$(losetup --associated "$room/disk")" ""
}

# The disk takes nothing any more, not even its journal (EXT4_IOC_SHUTDOWN without a flush), and all processes are gone. Then the disk
# is there again, as far as it was written.
cut_power() {
    perl -e 'my $how = pack "L", 2; open my $disk, "<", $ARGV[0] or die; ioctl $disk, 0x8004587d, $how or die "$!\n"' "$root"
    stop_at_once
    comes "the power is gone" is_free
    mount -o loop "$room/disk" "$root"
}

power_off() {
    inside systemctl poweroff
    wait "$nspawn" && leader='' nspawn=''
}
