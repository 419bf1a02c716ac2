# shellcheck shell=sh disable=SC2154
# Functions of all maintainer scripts of the packages made by nfpm, and of the tarball's install.sh. The shell may be
# BusyBox's, in an image that is being built: nothing here needs a running system.

# Root of an image that is built on another machine, by OpenEmbedded (D) or OpenWrt (IPKG_INSTROOT); empty on a device.
root=${D-${IPKG_INSTROOT-}}

say() { echo "$package: $*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
systemd_runs() { [ -z "$root" ] && [ -d /run/systemd/system ]; }
openrc_runs() { [ -z "$root" ] && has rc-service && [ -d /run/openrc ]; }

# The user and group $package, with the same name, without login. The home directory is the state directory.
create_user() {
    if [ -n "$root" ]; then
        grep -q "^$package:" "$root/etc/passwd" 2>/dev/null && return 0
        if has systemd-sysusers; then
            echo "u $package - \"$description\" /var/lib/$package" | systemd-sysusers --root="$root" - && return 0
        fi
        say "the image has no user $package yet: systemd creates it at the first boot; otherwise create it in the image"
        return 0
    fi
    if grep -q "^$package:" /etc/passwd && grep -q "^$package:" /etc/group; then
        return 0
    fi
    if has systemd-sysusers; then
        echo "u $package - \"$description\" /var/lib/$package" | systemd-sysusers - && return 0
    fi
    if has useradd && has groupadd; then
        grep -q "^$package:" /etc/group || groupadd --system "$package"
        grep -q "^$package:" /etc/passwd || useradd --system --gid "$package" --no-create-home \
            --home-dir "/var/lib/$package" --shell /sbin/nologin --comment "$description" "$package"
    elif has adduser && has addgroup; then
        # BusyBox
        grep -q "^$package:" /etc/group || addgroup -S "$package"
        grep -q "^$package:" /etc/passwd || adduser -S -D -H -h "/var/lib/$package" -s /sbin/nologin -G "$package" -g "$description" "$package"
    else
        say "there is no command to create the user $package: create it, with a group of the same name"
    fi
}

# What the configuration of systemd-tmpfiles says. Without systemd, the service creates its directories.
create_directories() {
    if has systemd-tmpfiles && [ -z "$root" ]; then
        systemd-tmpfiles --create "$package.conf" || true
    fi
}

# A program for another C library, or a newer one, cannot start. Better to say so now than in a journal.
check_program() {
    [ -z "$root" ] || return 0
    "/usr/bin/$program" --version >/dev/null 2>&1 ||
        say "$program does not start on this system: it needs glibc, in the version that its documentation names"
}

reload_systemd() {
    if systemd_runs; then
        systemctl daemon-reload || true
    fi
    if [ "$package" = fieldsync ] && [ -z "$root" ] && has journalctl; then
        journalctl --update-catalog 2>/dev/null || true
    fi
}

# Restarts the service if it runs. Its socket stays open, so that callers wait for a moment instead of failing.
restart_if_running() {
    if systemd_runs; then
        systemctl try-restart "$service" || true
    elif openrc_runs; then
        rc-service --ifstarted "$package" restart || true
    fi
}

# Stops the service. The socket comes first, because the next caller would start the daemon again. Then closes the port of the
# page, which systemd 254 and newer keep open while the daemon is stopped.
stop_and_disable() {
    # shellcheck disable=SC2086
    if systemd_runs; then
        systemctl --no-reload --quiet disable --now $units || true
        systemctl clean --what=fdstore "$service" >/dev/null 2>&1 || true
    elif has systemctl; then
        systemctl ${root:+--root="$root"} --no-reload --quiet disable $units || true
    fi
    if openrc_runs; then
        rc-service --ifstarted "$package" stop || true
    fi
    if [ -z "$root" ] && has rc-update; then
        rc-update --quiet --all delete "$package" >/dev/null 2>&1 || true
    fi
}

remove_runtime_directory() {
    if systemd_runs || openrc_runs; then
        rm -rf "/run/$package"
    fi
}

