# shellcheck shell=bash
# A device as a container: systemd, simulated power, and two ext4 disks, one for the system and one for the records.
# It leaves nothing behind: its disks are mounted in a private namespace, where no other process can use them, and
# which ends with the test.

# The mount point of the system's disk.
root=
nspawn=
leader=
machine=fieldsync-boot-$$
# On a machine without systemd, no unit can be created for the container.
unit=()
[ -d /run/systemd/system ] || unit=(--keep-unit)

# Prints why no device can boot here, or nothing if it can.
cannot_boot() {
    local why tool
    why=$(cannot_lay_out)
    [ -z "$why" ] || { echo "$why"; return; }
    losetup -f >/dev/null 2>&1 || { echo "there is no loop device on this machine"; return; }
    for tool in mkfs.ext4 fsfreeze nsenter pgrep perl; do
        command -v "$tool" >/dev/null || { echo "there is no $tool on this machine"; return; }
    done
}

# Unpacks a Debian on the system's disk.
make_device() {
    local debian disk
    debian=$(base)
    room=$(mktemp -d "$repository/target/boot/run.XXXX")
    trap clear_away EXIT
    root=$room/system
    for disk in system data; do
        mkdir "$room/$disk"
        truncate --size=2G "$room/$disk.img"
        mkfs.ext4 -q -F "$room/$disk.img"
    done
    mount_disks
    tar -C "$root" -xf "$debian"
    # The journal must survive the loss of power.
    mkdir -p "$root/var/log/journal"
    : >"$room/acknowledged"
}

mount_disks() {
    local disk
    for disk in system data; do mount -o loop "$room/$disk.img" "$room/$disk"; done
}

clear_away() {
    local status=$?
    if [ "$status" != 0 ]; then
        echo "failed; the last words of the device:"
        tail -n 20 "$room/console" 2>/dev/null | sed 's/^/      /'
        [ -z "$leader" ] || inside journalctl --unit=fieldsync --no-pager --lines=30 2>/dev/null | sed 's/^/      /'
    fi
    fsfreeze --unfreeze "$room/data" 2>/dev/null || true
    stop_at_once
    umount "$room/system" "$room/data" 2>/dev/null || umount --lazy "$room/system" "$room/data" 2>/dev/null || true
    rm -rf "$room"
}

# Runs a command in the device, as root.
inside() { nsenter --target "$leader" --mount --uts --ipc --net --pid -- "$@"; }

is_booted() { leader=$(pgrep --parent "$nspawn") && [ "$(cat "/proc/$leader/comm")" = systemd ] && is_up; }
is_up() { has "$(inside systemctl is-system-running 2>&1)" '^\(running\|degraded\)$'; }
is_well() { same "$(inside systemctl --failed --no-legend)" ""; }

boot() {
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" --machine="$machine" \
        --bind="$room/data:/var/lib/fieldsync" --private-network --register=no "${unit[@]}" --console=pipe </dev/null >>"$room/console" 2>&1 &
    nspawn=$!
    comes "systemd is up as PID 1" is_booted
}

# All processes of the container end with its first one.
stop_at_once() {
    [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
    [ -z "$nspawn" ] || { kill -KILL "$nspawn" 2>/dev/null || true; wait "$nspawn" 2>/dev/null || true; }
    leader='' nspawn=''
}

# Wait until no process uses the disks: mounted before that, they would still be the failed ones.
are_free() {
    local disk
    for disk in system data; do
        ! mountpoint --quiet "$room/$disk" || umount "$room/$disk" || return
        same "$(losetup --associated "$room/$disk.img")" "" || return
    done
}

# The disks stop taking writes, even of their journals (EXT4_IOC_SHUTDOWN without a flush), and all processes are
# killed. Then the disks return with the data that had been written.
cut_power() {
    perl -e 'my $how = pack "L", 2; for (@ARGV) { open my $disk, "<", $_ or die; ioctl $disk, 0x8004587d, $how or die "$!\n" }' \
        "$room/data" "$root"
    stop_at_once
    comes "the power is gone" are_free
    mount_disks
}

power_off() {
    inside systemctl poweroff
    wait "$nspawn" && leader='' nspawn=''
}
