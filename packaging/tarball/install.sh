#!/bin/sh
# Installs, upgrades and removes the package beside this script, on systems that no other package of fieldsync fits.
#
#   sudo ./install.sh [--prefix DIR] [--no-start]       installs or upgrades
#   sudo ./install.sh --uninstall [--purge]             removes; configuration and records stay without --purge
#
# --prefix DIR   where programs, manual pages and documentation go; default: /usr/local
# --no-start     enables, starts and restarts nothing: a service that runs keeps its program until it is restarted
# --purge        also deletes the configuration and the state, but no record that is not sent and no ledger
# DESTDIR=DIR    installs into the tree of an image: nothing is started, and any architecture is accepted
#
# Before anything is changed, the files are compared with SHA256SUMS, and the device with what the programs need. The
# files that were installed are listed in PREFIX/lib/PACKAGE/manifest. A copy of this script beside it can uninstall.

# shellcheck disable=SC2154 # The names of the package are assigned in what pack puts here.
set -eu
umask 022

# packaging/tarball/pack puts the names of the package and the functions of packaging/nfpm/scripts here.

say() { echo "$package: $*"; }
fail() { echo "$package: $*" >&2; exit 1; }
refuse() { fail "nothing was changed: $*"; }
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
root=${DESTDIR-}
root=${root%/}
prefix=
action=install
purge=no
start=yes
while [ "$#" -gt 0 ]; do
    case $1 in
    --uninstall) action=uninstall ;;
    --purge) purge=yes ;;
    --no-start) start=no ;;
    --prefix) [ "$#" -ge 2 ] || { usage >&2; exit 2; }; prefix=$2; shift ;;
    --prefix=*) prefix=${1#--prefix=} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
[ "$purge" = no ] || [ "$action" = uninstall ] || { usage >&2; exit 2; }

# What packaging/tarball/pack wrote: version, arch, glibc.
value() { sed -n "s/^$1=//p" "$here/package"; }
[ -r "$here/package" ] || fail "the file $here/package is missing: unpack the whole tarball"
# The copy that an installation left in PREFIX/lib/PACKAGE knows its prefix.
if [ -z "$prefix" ] && [ -r "$here/prefix" ]; then
    prefix=$(cat "$here/prefix")
fi
prefix=${prefix:-/usr/local}
prefix=${prefix%/}
case $prefix in /*) ;; *) fail "--prefix must begin with /" ;; esac
case $prefix in *[!A-Za-z0-9/._+-]*) fail "--prefix may contain only letters, digits and /._+-" ;; esac
library=$root$prefix/lib/$package
manifest=$library/manifest

[ -n "$root" ] || [ "$(id -u)" = 0 ] || refuse "only root may do this: use sudo"

# --- Checks, which change nothing

check_files() {
    has sha256sum || refuse "the command sha256sum is missing, so the files cannot be verified"
    [ -r "$here/SHA256SUMS" ] || refuse "the file SHA256SUMS is missing: unpack the whole tarball"
    (cd "$here" && sha256sum -c SHA256SUMS >/dev/null 2>&1) ||
        refuse "a file differs from SHA256SUMS, or is missing: download and unpack the tarball again"
    listed=$(wc -l <"$here/SHA256SUMS")
    present=$(cd "$here" && find . ! -type d ! -path ./SHA256SUMS | wc -l)
    [ "$listed" -eq "$present" ] || refuse "there are files that SHA256SUMS does not list: unpack the tarball into an empty directory"
}

# is_older A B: compares versions like 2.31
is_older() {
    awk -v a="$1" -v b="$2" 'BEGIN { split(a, x, "."); split(b, y, ".")
        exit !(x[1] + 0 < y[1] + 0 || (x[1] + 0 == y[1] + 0 && x[2] + 0 < y[2] + 0)) }'
}

check_device() {
    [ -z "$root" ] || return 0
    arch=$(value arch)
    machine=$(uname -m)
    # A kernel of 64 bits may run a system of 32 bits.
    case $arch/$machine in
    amd64/x86_64 | arm64/aarch64 | armhf/armv7* | armhf/armv8* | armhf/aarch64) ;;
    *) refuse "this tarball is for $arch, and this machine is $machine: download the tarball for it" ;;
    esac
    needed=$(value glibc)
    present=$({ getconf GNU_LIBC_VERSION 2>/dev/null || ldd --version 2>/dev/null || true; } |
        sed -n '1s/.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/p')
    if [ -n "$present" ] && is_older "$present" "$needed"; then
        refuse "the programs need glibc $needed, and this system has $present: upgrade the system first"
    fi
    if ! "$here/files/usr/bin/$program" --version >/dev/null 2>&1; then
        case $(ldd --version 2>&1 || true) in
        *musl*) refuse "the programs need glibc $needed, and this system has musl instead" ;;
        esac
        refuse "the programs do not start on this system: they need glibc $needed for $arch, and a directory whose programs may run"
    fi
    # Two services of one name would compete, and each installation would delete files of the other.
    for unit in "/etc/systemd/system/$service" "/usr/local/lib/systemd/system/$service" \
        "/usr/lib/systemd/system/$service" "/lib/systemd/system/$service" "/etc/init.d/$package"; do
        other=$(sed -n "s#^\(ExecStart\|command\)=\(/[^ ]*\)/bin/$program\( .*\)*\$#\2#p" "$unit" 2>/dev/null | sed -n 1p)
        if [ -n "$other" ] && { [ "$other" != "$prefix" ] || [ ! -e "$manifest" ]; } && [ -e "$other/bin/$program" ]; then
            refuse "$package is installed in $other already: name it with --prefix if install.sh did that, or remove it first"
        fi
    done
}

# --- Files

# Where a file of the tree goes: system directories that programs search are the same for every prefix.
target_of() {
    case $1 in
    usr/lib/systemd/catalog/* | etc/init.d/*) echo "/$1" ;;
    usr/lib/systemd/* | usr/lib/sysusers.d/* | usr/lib/tmpfiles.d/*)
        # systemd searches no other prefix.
        case $prefix in
        /usr | /usr/local) echo "$prefix/${1#usr/}" ;;
        *) echo "/etc/${1#usr/lib/}" ;;
        esac ;;
    usr/*) echo "$prefix/${1#usr/}" ;;
    *) echo "/$1" ;;
    esac
}

# is_wanted FILE: systemd would take a script of OpenRC for one of System V.
is_wanted() {
    case $1 in
    etc/init.d/*) [ -x "$root/sbin/openrc-run" ] && [ ! -e "$root/usr/bin/systemctl" ] ;;
    etc/fieldsync/* | etc/fieldsync-gateway/* | etc/default/*) return 1 ;;
    *) return 0 ;;
    esac
}

# is_masked FILE: an administrator masked the unit, or linked it to another file.
is_masked() {
    case $1 in
    /etc/systemd/system/*) [ -L "$root$1" ] ;;
    *) return 1 ;;
    esac
}

# name_prefix FILE: prints it, with the programs and the documentation where they are installed.
name_prefix() {
    sed -e "s|/usr/bin/fieldsync|$prefix/bin/fieldsync|g" -e "s|/usr/share/fieldsync|$prefix/share/fieldsync|g" \
        -e "s|/usr/share/doc/fieldsync|$prefix/share/doc/fieldsync|g" "$1"
}

# put SOURCE TARGET: replaces the file in one step, so that a program that runs keeps its own.
put() {
    if is_masked "$2"; then
        say "$2 is a link of the administrator, and stays"
        return
    fi
    mkdir -p "$(dirname "$root$2")"
    echo "$2" >>"$manifest.new"
    # What an interruption left: through a link, cp would write into another file.
    rm -f "$root$2.new"
    if [ -L "$1" ]; then
        ln -s "$(readlink "$1")" "$root$2.new"
        mv -f "$root$2.new" "$root$2"
        return
    fi
    cp "$1" "$root$2.new"
    case $2 in
    "$prefix"/bin/* | "$prefix"/lib/"$package"/install.sh | */system-generators/* | /etc/init.d/*) chmod 0755 "$root$2.new" ;;
    *) chmod 0644 "$root$2.new" ;;
    esac
    case $2 in
    *.service | */system-generators/* | /etc/init.d/* | */config.toml) name_prefix "$1" >"$root$2.new" ;;
    esac
    mv -f "$root$2.new" "$root$2"
}

install_files() {
    mkdir -p "$library"
    : >"$manifest.new"
    (cd "$here/files" && find . -type f -o -type l) | sed 's|^\./||' | sort >"$library/files.new"
    while read -r file; do
        if is_wanted "$file"; then
            put "$here/files/$file" "$(target_of "$file")"
        fi
    done <"$library/files.new"
    rm -f "$library/files.new"
    put "$here/install.sh" "$prefix/lib/$package/install.sh"
    put "$here/package" "$prefix/lib/$package/package"
    echo "$prefix" >"$library/prefix"
    printf '%s\n' "$prefix/lib/$package/prefix" "$prefix/lib/$package/manifest" >>"$manifest.new"
    # What an older version had and this one has not.
    if [ -e "$manifest" ]; then
        while read -r file; do
            grep -Fqx "$file" "$manifest.new" || remove_file "$file"
        done <"$manifest"
    fi
}

# remove_file FILE: with the directories that are empty then.
remove_file() {
    is_masked "$1" || rm -f "$root$1"
    directory=$(dirname "$1")
    while :; do
        case $directory in
        "$prefix" | / | /etc | /usr | /usr/lib | /usr/lib/systemd | /etc/systemd | /etc/systemd/system | /etc/init.d) break ;;
        # Also directories of the system that were empty before.
        "$prefix"/bin | "$prefix"/lib | "$prefix"/share | "$prefix"/share/man) break ;;
        esac
        rmdir "$root$directory" 2>/dev/null || break
        directory=$(dirname "$directory")
    done
}

# Also a link to a disk that is not mounted.
exists() { [ -e "$1" ] || [ -L "$1" ]; }

# Configuration files are created once, and then belong to the administrator.
install_configuration() {
    if [ "$package" = fieldsync ]; then
        mkdir -p "$root/etc/fieldsync/conf.d"
        exists "$root/etc/fieldsync/config.toml" || name_prefix "$here/files/etc/fieldsync/config.toml" >"$root/etc/fieldsync/config.toml"
        return
    fi
    if [ ! -d "$root/etc/$package" ]; then
        mkdir -p "$root/etc"
        mkdir -m 0750 "$root/etc/$package"
    fi
    mkdir -p "$root/etc/default"
    exists "$root/etc/default/$package" || cp "$here/files/etc/default/$package" "$root/etc/default/$package"
    if ! exists "$root/etc/$package/config.toml"; then
        # An address of a database may contain a password.
        (umask 027 && name_prefix "$here/files/etc/$package/config.toml" >"$root/etc/$package/config.toml")
    fi
    group=$(sed -n "s/^$package:[^:]*:\([0-9]*\):.*/\1/p" "$root/etc/group" 2>/dev/null) || true
    [ -z "$group" ] || chgrp "$group" "$root/etc/$package" "$root/etc/$package/config.toml"
}

# --- The service

# start_service IS_NEW: only the first installation enables the service, and only the device's.
start_service() {
    create_directories
    reload_systemd
    wanted=no
    if [ "$1" = yes ]; then
        [ "$starts_by_itself" = no ] || wanted=$start
    elif [ "$start" = yes ]; then
        restart_if_running
    fi
    # shellcheck disable=SC2086
    if has systemctl; then
        [ "$wanted" = yes ] || return 0
        if systemd_runs; then
            systemctl --quiet enable --now $units || say "the service did not start: systemctl status $package"
        else
            # It works on the files of an image, too.
            systemctl ${root:+--root="$root"} --no-reload --quiet enable $units || true
        fi
    elif has rc-update && [ -z "$root" ]; then
        [ "$wanted" = yes ] || return 0
        rc-update --quiet add "$package" default || true
        if openrc_runs; then
            rc-service "$package" start || true
        fi
    elif [ -z "$root" ]; then
        say "there is neither systemd nor OpenRC: start $prefix/bin/$program as the user $package yourself"
    elif [ "$wanted" = yes ]; then
        say "there is no systemctl to enable the service in the image: enable $units there"
    fi
}

# --- Actions

install_package() {
    check_files
    check_device
    new=yes
    [ ! -e "$manifest" ] || new=no
    install_files
    create_user
    install_configuration
    start_service "$new"
    # Last, so that an installation that failed is no upgrade when it is repeated.
    mv -f "$manifest.new" "$manifest"
    if [ "$new" = no ]; then
        say "version $(value version) replaces the former one; configuration and state are as before"
    else
        say "version $(value version) is installed in $root$prefix"
        [ -n "$root" ] || say "to remove it: sh $prefix/lib/$package/install.sh --uninstall"
    fi
}

# Deletes configuration and state, unless the state may hold records that are not sent. Nobody else has the ledger.
purge_state() {
    state=$root/var/lib/$package
    if [ "$package" = fieldsync-gateway ]; then
        rmdir "$state" 2>/dev/null || [ ! -d "$state" ] ||
            say "$state stays: it may hold a ledger, with records that are not forwarded. Delete it if nobody needs it"
    elif [ "$unsent" = 0 ] && [ -d "$state" ]; then
        find -H "$state" -mindepth 1 -delete
        rmdir "$state" 2>/dev/null || true
    elif [ -d "$state" ]; then
        say "$state stays: it holds records that are not sent ($unsent). To send them, install the package and run fieldsync setup again"
    fi
    # What "fieldsync setup" wrote: a device that is retired must not keep its token.
    for file in token token-2 ca.pem; do
        if grep -q "= \"/etc/fieldsync/$file\"" "$root/etc/$package/conf.d/10-setup.toml" 2>/dev/null; then
            rm -f "$root/etc/fieldsync/$file"
        fi
    done
    rm -f "$root/etc/$package/config.toml" "$root/etc/$package/conf.d/10-setup.toml"
    [ "$package" = fieldsync ] || rm -f "$root/etc/default/$package"
    rmdir "$root/etc/$package/conf.d" "$root/etc/$package" 2>/dev/null || true
    # Where the script for OpenRC keeps the log, and logrotate older ones.
    rm -f "$root/var/log/$package.log" "$root/var/log/$package.log".*
}

# The number of records that are not sent, counted by the daemon's user, which owns the directory.
count_unsent() {
    queue=$root/var/lib/fieldsync
    [ "$package" = fieldsync ] || return 0
    if [ -n "$(find "$queue" -maxdepth 1 -name 'queue.redb.damaged-*' 2>/dev/null)" ]; then
        echo "a damaged file may have some"
    elif [ ! -e "$queue/queue.redb" ]; then
        echo 0
    elif [ -n "$root" ]; then
        echo "an unknown number"
    elif has setpriv; then
        setpriv --reuid=fieldsync --regid=fieldsync --clear-groups "$prefix/bin/fieldsync" store count "$queue" 2>/dev/null ||
            echo "an unknown number"
    else
        su -s /bin/sh fieldsync -c "'$prefix/bin/fieldsync' store count '$queue'" 2>/dev/null || echo "an unknown number"
    fi
}

uninstall_package() {
    [ -r "$manifest" ] || refuse "$package is not installed in $root$prefix: there is no $manifest. Name another --prefix"
    stop_and_disable
    unsent=0
    [ "$purge" = no ] || unsent=$(count_unsent)
    list=$(mktemp)
    cp "$manifest" "$list"
    while read -r file; do
        remove_file "$file"
    done <"$list"
    rm -f "$list"
    reload_systemd
    remove_runtime_directory
    if [ "$purge" = yes ]; then
        purge_state
        say "is removed"
    else
        say "is removed; /etc/$package, /var/lib/$package and the user $package stay"
    fi
}

"${action}_package"
