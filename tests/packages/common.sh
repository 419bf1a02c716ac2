# shellcheck shell=bash
# Shared by the tests of rpm, apk, ipk and the tarball: systems to install into, packages of two versions, and what must hold
# for all of them. Assertions and the Debian with systemd come from tests/boot.

# shellcheck source=tests/boot/common.sh
. "$(dirname "${BASH_SOURCE[0]}")/../boot/common.sh"

root=
older_version=0.1.9
# shellcheck disable=SC2034 # Used by the tests of the formats.
version=$("$repository/packaging/version")
older=$repository/target/test-packages/older
newer=$repository/target/test-packages/newer

# derived NAME COMMAND…: the archive of the fresh Debian after commands that a shell in it runs; made once.
derived() {
    local archive=$repository/target/boot/$1.tar debian tree
    if [ ! -s "$archive" ]; then
        debian=$(base)
        tree=$(mktemp -d "$repository/target/boot/$1.XXXX")
        chmod 755 "$tree"
        { tar -C "$tree" -xf "$debian" &&
            systemd-nspawn --quiet --register=no --keep-unit --pipe --directory="$tree" --setenv=DEBIAN_FRONTEND=noninteractive \
                sh -euc "apt-get update -q; $2; apt-get clean; rm -rf /var/lib/apt/lists/*"; } </dev/null \
            >"$repository/target/boot/derived-$1.log" 2>&1 || { rm -rf "$tree"; return 1; }
        tar -C "$tree" -cf "$archive.part" .
        mv "$archive.part" "$archive"
        rm -rf "$tree"
    fi
    echo "$archive"
}
base_with_rpm() { derived rpm 'apt-get install -qy --no-install-recommends rpm'; }
base_with_openrc() {
    derived openrc 'apt-get install -qy --no-install-recommends --allow-remove-essential openrc systemd-sysv- systemd-
        if command -v systemctl; then exit 1; fi'
}

# make_bases FORMAT…: the systems that the tests of these formats need.
make_bases() {
    base >/dev/null || return
    case " $* " in *" rpm "*) base_with_rpm >/dev/null || return ;; esac
    case " $* " in *" apk "* | *" tar "*) base_with_openrc >/dev/null || return ;; esac
}

# unpack_system ARCHIVE NAME: sets root.
unpack_system() {
    root=$room/$2
    mkdir "$root"
    tar -C "$root" -xf "$1"
}

# A command in the system, as root, without a running init system.
inside() {
    systemd-nspawn --quiet --register=no --keep-unit --pipe --private-network --directory="$root" "$@" </dev/null
}

# --- A booted system

leader='' nspawn=''
on_host() { nsenter --target "$leader" --mount --uts --ipc --net --pid -- "$@"; }
is_booted() {
    leader=$(pgrep --parent "$nspawn") && [ "$(cat "/proc/$leader/comm")" = systemd ] &&
        has "$(on_host systemctl is-system-running 2>&1)" '^\(running\|degraded\)$'
}
boot() {
    local unit=()
    [ -d /run/systemd/system ] || unit=(--keep-unit)
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --directory="$root" --machine="fieldsync-package-$$" \
        --private-network --register=no "${unit[@]}" --console=pipe </dev/null >"$room/console" 2>&1 &
    nspawn=$!
    comes "systemd is up as PID 1" is_booted
}
stop_system() {
    [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
    [ -z "$nspawn" ] || { kill -KILL "$nspawn" 2>/dev/null || true; wait "$nspawn" 2>/dev/null || true; }
    leader='' nspawn=''
}

clear_away() {
    local status=$?
    [ "$status" = 0 ] || [ -z "$leader" ] || on_host journalctl --no-pager --lines=40 2>/dev/null | sed 's/^/      /' || true
    stop_system
    [ -z "$room" ] || rm -rf --one-file-system "$room"
}
make_room() {
    mkdir -p "$repository/target/boot"
    room=$(mktemp -d "$repository/target/boot/packages.XXXX")
    chmod 755 "$room"
    trap clear_away EXIT
}

# --- Packages

# make_packages BIN_DIR FORMAT…: packages of this version and of an older one, which has another configuration, one file
# more in each tree, and the daemon as a program of its own.
make_packages() {
    local bin=$1 stage=$repository/target/test-packages/stage format package
    shift
    rm -rf "$repository/target/test-packages"
    mkdir -p "$repository/target/test-packages/programs"
    for program in fieldsync fieldsync-gateway; do
        strip -o "$repository/target/test-packages/programs/$program" "$bin/$program"
    done
    "$repository/packaging/stage" amd64 "$repository/target/test-packages/programs" "$stage/newer" >/dev/null
    cp -a "$stage/newer" "$stage/older"
    for package in fieldsync fieldsync-gateway; do
        sed -i '$a # Shipped by the older version.' "$stage/older/$package/etc/$package/config.toml"
        echo "only in the older version" >"$stage/older/$package/usr/share/$package/older.txt"
    done
    rm "$stage/older/fieldsync/usr/bin/fieldsyncd"
    cp -a "$stage/older/fieldsync/usr/bin/fieldsync" "$stage/older/fieldsync/usr/bin/fieldsyncd"
    for format in "$@"; do
        "$repository/packaging/nfpm/pack" amd64 "$format" "$stage/newer" "$newer" >/dev/null
        PACKAGE_VERSION=$older_version "$repository/packaging/nfpm/pack" amd64 "$format" "$stage/older" "$older" >/dev/null
    done
}
# find_package DIRECTORY PACKAGE SUFFIX
find_package() { find "$1" -name "$2[-_][0-9]*$3" | grep . || { echo "there is no $2…$3 in $1" >&2; return 1; }; }

# --- What must hold

has_mode() { same "$(inside stat --format='%a %U:%G' "$1")" "$2"; }
# With PREFIX, below that directory.
daemon_is_a_link() {
    same "$(readlink "$root${1-/usr}/bin/fieldsyncd")" fieldsync && has "$(inside "${1-/usr}/bin/fieldsyncd" --version)" "^fieldsyncd $version\$"
}
daemon_is_a_program() { test -x "$root${1-/usr}/bin/fieldsyncd" && not test -L "$root${1-/usr}/bin/fieldsyncd"; }
demo_is_well() {
    has "$(inside env -i PATH="${PROGRAMS-/usr/bin}:/usr/bin:/bin" HOME=/tmp setpriv --reuid=nobody --regid=nogroup --clear-groups fieldsync demo --json)" \
        '"records":150,"synced":149,"quarantined":1,"lost":0,"duplicates":0'
}
records() { find "$root/var/lib/fieldsync" -type f -exec sha256sum {} + | sort; }
# Starts the daemon by hand, as its user, and enqueues a record.
take_a_record() {
    inside env PATH="${PROGRAMS-/usr/bin}:/usr/sbin:/usr/bin:/sbin:/bin" sh -euc '
        install -d -o fieldsync -g fieldsync /run/fieldsync /var/lib/fieldsync
        setpriv --reuid=fieldsync --regid=fieldsync --clear-groups fieldsyncd &
        until fieldsync status; do kill -0 $! || exit 1; sleep 0.1; done
        echo "{\"type\":\"Visits\",\"payload\":{\"a\":1}}" | fieldsync enqueue
        kill $!
        wait $!'
}
# files_of ROOT: every file, without those that the system itself writes.
files_of() {
    (cd "$1" && find . -xdev ! -type d \
        ! -path './run/*' ! -path './tmp/*' ! -path './root/*' ! -path './dev/*' ! -path './var/log/*' ! -path './var/cache/*' ! -path './var/tmp/*' \
        ! -path './var/lib/rpm/*' ! -path './usr/lib/sysimage/*' ! -path './lib/apk/*' ! -path './usr/lib/apk/*' ! -path './var/lib/systemd/*' \
        ! -path './etc/passwd*' ! -path './etc/group*' ! -path './etc/*shadow*' ! -path './etc/.*' ! -path './etc/sub?id*' ! -path './var/lib/fieldsync*' \
        ! -path './etc/machine-id' ! -path './etc/resolv.conf' ! -path './etc/rc*.d/*' ! -path './etc/apk/*' ! -path './etc/hostname' ! -path './etc/systemd/system-preset/*' ) | sort
}
only_configuration_stays() {
    same "$(comm -13 "$room/before" <(files_of "$root") | grep -v "^./etc/\(fieldsync\|fieldsync-gateway\|default/fieldsync-gateway\)" || true)" ""
}
is_enabled() { test -L "$root/etc/systemd/system/sockets.target.wants/fieldsync.socket" && test -L "$root/etc/systemd/system/multi-user.target.wants/fieldsync.service"; }
gateway_is_enabled() { test -L "$root/etc/systemd/system/multi-user.target.wants/fieldsync-gateway.service"; }

configure_as_owner() {
    printf '[queue]\nmax_records = 1234\n' >>"$root/etc/fieldsync/config.toml"
    sed -i 's/:8080/:8181/' "$root/etc/fieldsync-gateway/config.toml"
}
owner_configuration_stays() {
    grep --quiet '^max_records = 1234' "$root/etc/fieldsync/config.toml" && grep --quiet ':8181' "$root/etc/fieldsync-gateway/config.toml"
}

# A booted system in which both packages of the older version are installed, and the commands to upgrade and remove.
goes_through_an_upgrade() {
    local upgrade=$1 remove=$2 pid inode
    boot
    on_host systemctl enable --now --quiet fieldsync.socket fieldsync.service
    comes "the daemon runs" on_host systemctl is-active fieldsync.service
    holds "it accepts a record" on_host sh -c 'echo "{\"type\":\"Visits\",\"payload\":{\"a\":1}}" | fieldsync enqueue'
    pid=$(on_host systemctl show --property=MainPID --value fieldsync.service)
    inode=$(on_host stat --format=%i /run/fieldsync/fieldsync.sock)
    holds "an upgrade succeeds" on_host sh -euc "$upgrade"
    holds "another daemon runs" not same "$(on_host systemctl show --property=MainPID --value fieldsync.service)" "$pid"
    comes "and is ready" on_host systemctl is-active fieldsync.service
    holds "the socket stayed" same "$(on_host stat --format=%i /run/fieldsync/fieldsync.sock)" "$inode"
    holds "the record waits" has "$(on_host fieldsync status --json)" '"pending":1'
    holds "the gateway does not run" same "$(on_host systemctl is-active fieldsync-gateway.service || true)" inactive
    on_host systemctl stop fieldsync.socket fieldsync.service
    holds "a second upgrade succeeds" on_host sh -euc "$upgrade"
    holds "and does not start what was stopped" same "$(on_host systemctl is-active fieldsync.service || true)" inactive
    on_host systemctl start fieldsync.socket fieldsync.service
    holds "a removal succeeds" on_host sh -euc "$remove"
    holds "the daemon does not run" not on_host pgrep fieldsyncd
    holds "systemd does not know the units" not on_host systemctl cat fieldsync.service
    holds "no socket is left" not on_host test -e /run/fieldsync
    holds "no unit failed" same "$(on_host systemctl --failed --no-legend)" ""
    holds "the record is on disk" on_host test -s /var/lib/fieldsync/queue.redb
    stop_system
}

# goes_through_openrc INSTALL UPGRADE REMOVE: the service under OpenRC, which is started without being PID 1.
goes_through_openrc() {
    local install=$1 upgrade=$2 remove=$3
    # Debian's OpenRC leaves mounts to other packages.
    printf '%s\n' '#!/sbin/openrc-run' 'start() { return 0; }' >"$root/etc/init.d/localmount"
    chmod 0755 "$root/etc/init.d/localmount"
    files_of "$root" >"$room/before"
    holds "the service is installed, started, upgraded, stopped and removed" inside env PATH="${PROGRAMS-/usr/bin}:/usr/sbin:/usr/bin:/sbin:/bin" sh -euc "
        # As if OpenRC had booted the system.
        for directory in daemons exclusive failed hotplugged inactive options scheduled started starting stopping wasinactive tmp; do
            mkdir -p /run/openrc/\$directory
        done
        echo default >/run/openrc/softlevel
        wait_for() { n=0; until \"\$@\" >/dev/null 2>&1; do n=\$((n + 1)); [ \$n -lt 300 ] || { echo \"no: \$*\"; exit 1; }; sleep 0.1; done; }
        $install
        rc-update add fieldsync default >/dev/null 2>&1 || true
        rc-service fieldsync start || true
        wait_for fieldsync status
        echo '{\"type\":\"Visits\",\"payload\":{\"a\":1}}' | fieldsync enqueue
        before=\$(pidof fieldsyncd)
        $upgrade
        wait_for fieldsync status
        [ \"\$(pidof fieldsyncd)\" != \"\$before\" ]
        fieldsync status --json | grep '\"pending\":1'
        rc-service fieldsync reload
        rc-service fieldsync stop
        $upgrade
        if pidof fieldsyncd; then exit 1; fi
        rc-service fieldsync start
        $remove
        if pidof fieldsyncd; then exit 1; fi
        [ -s /var/lib/fieldsync/queue.redb ]
        ! ls /etc/runlevels/default/fieldsync"
    holds "no program and no service is left" only_configuration_stays
}

# A ledger of the gateway. Records in it may wait to be forwarded, and devices have deleted them: no removal and no purge
# deletes it.
leave_a_ledger() { install -D /dev/stdin "$root/var/lib/fieldsync-gateway/ledger.redb" <<<"a record that is not forwarded"; }
ledger_stays() { same "$(cat "$root/var/lib/fieldsync-gateway/ledger.redb")" "a record that is not forwarded"; }
