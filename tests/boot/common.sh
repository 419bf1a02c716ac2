# shellcheck shell=bash
# Shared by the tests of the installed packages: assertions, a fresh Debian, a newer version.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# The temporary directory of the test, which removes it.
room=

scene() { printf '\n%s\n' "$*"; }

# Ends the test unless the command succeeds. The sentence describes the assertion.
holds() {
    local sentence=$1
    shift
    if "$@" >"$room/out" 2>&1; then
        printf '  %s\n' "$sentence"
    else
        printf '  FAILED: %s\n' "$sentence"
        sed 's/^/      /' "$room/out"
        return 1
    fi
}

# Ends the test unless the command succeeds within 60 s, or $patience seconds.
comes() {
    local sentence=$1 end=$((SECONDS + ${patience:-60}))
    shift
    until "$@" >"$room/out" 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            printf '  FAILED: %s\n' "$sentence"
            sed 's/^/      /' "$room/out"
            return 1
        fi
        sleep 0.1
    done
    printf '  %s\n' "$sentence"
}

not() { ! "$@"; }
same() { [ "$1" = "$2" ] || { printf 'is       %s\nshall be %s\n' "$1" "$2"; return 1; }; }
has() { grep -q -e "$2" <<<"$1" || { printf 'not in there: %s\n%.2000s\n' "$2" "$1"; return 1; }; }

# Prints why no Debian can be created here, or nothing if it can.
cannot_lay_out() {
    [ "$(id -u)" = 0 ] || { echo "only root may lay out a Debian"; return; }
    command -v debootstrap >/dev/null || { echo "there is no debootstrap on this machine"; return; }
    command -v systemd-nspawn >/dev/null || { echo "there is no systemd-nspawn on this machine (Debian: systemd-container)"; return; }
    systemd-nspawn --quiet --register=no --keep-unit --pipe --volatile=yes --directory=/ /usr/bin/true >/dev/null 2>&1 </dev/null ||
        { echo "systemd-nspawn cannot start a container on this machine"; return; }
    base >/dev/null || { echo "Debian's archive cannot be reached, or debootstrap failed: see target/boot"; return; }
}

# The archive of a fresh Debian of the requested suite; downloaded once.
base() {
    local suite=${SUITE:-trixie}
    local archive=$repository/target/boot/$suite.tar tree
    if [ ! -s "$archive" ]; then
        mkdir -p "$repository/target/boot"
        tree=$(mktemp -d "$repository/target/boot/$suite.XXXX")
        # It becomes the root directory, which every user may enter.
        chmod 755 "$tree"
        # The dependencies of the package, and an HTTP client.
        # An incomplete tree is always removed.
        trap 'rm -rf --one-file-system "$tree"' EXIT
        if ! debootstrap --variant=minbase --include=systemd-sysv,dbus,curl,ca-certificates,man-db \
            "$suite" "$tree" >"$repository/target/boot/debootstrap.log" 2>&1; then
            rm -rf "$tree"
            return 1
        fi
        rm -f "$tree"/var/cache/apt/archives/*.deb
        tar -C "$tree" -cf "$archive.part" .
        mv "$archive.part" "$archive"
        rm -rf "$tree"
        trap - EXIT
    fi
    echo "$archive"
}

# take_packages PACKAGE…: finds out which package is the device's and which the gateway's.
device='' gateway=''
take_packages() {
    local package
    for package in "$@"; do
        case $(dpkg-deb --field "$package" Package) in
        fieldsync) device=$(realpath "$package") ;;
        fieldsync-gateway) gateway=$(realpath "$package") ;;
        esac
    done
    [ -n "$device" ] && [ -n "$gateway" ] || { echo "$0 needs both packages, as packaging/build prints them" >&2; exit 2; }
}

# build TREE OUTPUT: builds a package from an unpacked one.
build() {
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$1" "$2" >/dev/null
    rm -r "$1"
}

# newer PACKAGE OUTPUT: the same programs with a higher version, and changed files that people may edit.
newer() {
    local tree
    tree=$(mktemp -d "$room/newer.XXXX")
    dpkg-deb --raw-extract "$1" "$tree"
    sed -i 's/^Version: .*/&+newer/' "$tree/DEBIAN/control"
    find "$tree/etc" "$tree"/usr/share/fieldsync* -type f -exec sed -i '$a # Shipped by the newer version.' {} + 2>/dev/null || true
    build "$tree" "$2"
}

# older_gateway OUTPUT: the gateway's package as it was when its configuration and its options were conffiles, with all
# keys in comments. The version ends with the number, and so do the conffiles.
older_gateway() {
    local tree share
    tree=$(mktemp -d "$room/older.XXXX")
    dpkg-deb --raw-extract "$gateway" "$tree"
    share=$tree/usr/share/fieldsync-gateway
    sed -i "s/^Version: .*/Version: 0.2.0~$2/" "$tree/DEBIAN/control"
    install -D -m 0644 "$share/config.toml" "$tree/etc/fieldsync-gateway/config.toml"
    install -D -m 0644 "$share/etc-default" "$tree/etc/default/fieldsync-gateway"
    sed -i "\$a # Shipped by the older version $2." "$tree/etc/fieldsync-gateway/config.toml" "$tree/etc/default/fieldsync-gateway"
    printf '%s\n' /etc/fieldsync-gateway/config.toml /etc/default/fieldsync-gateway >"$tree/DEBIAN/conffiles"
    rm -r "$share" "$tree/DEBIAN/preinst"
    build "$tree" "$1"
}

# overlapping_gateway OUTPUT: a newer package that dpkg refuses in the middle of an upgrade, because it has a file of
# the device's package.
overlapping_gateway() {
    local tree
    tree=$(mktemp -d "$room/overlapping.XXXX")
    dpkg-deb --raw-extract "$gateway" "$tree"
    sed -i 's/^Version: .*/&+overlapping/' "$tree/DEBIAN/control"
    install -m 0755 /bin/true "$tree/usr/bin/fieldsync"
    build "$tree" "$1"
}

# older OUTPUT: the device's package as before 0.2.0, when it also had the gateway's program and manual page, a conffile
# with all defaults, and the daemon as a file of its own.
older() {
    local tree
    tree=$(mktemp -d "$room/older.XXXX")
    dpkg-deb --raw-extract "$device" "$tree"
    dpkg-deb --fsys-tarfile "$gateway" | tar -C "$tree" -x ./usr/bin ./usr/share/man
    rm "$tree/usr/bin/fieldsyncd"
    cp "$tree/usr/bin/fieldsync" "$tree/usr/bin/fieldsyncd"
    sed -i 's/^Version: .*/Version: 0.1.0-1/' "$tree/DEBIAN/control"
    install -D -m 0644 "$tree/usr/share/fieldsync/config.toml" "$tree/etc/fieldsync/config.toml"
    echo "# Shipped by the older version." >>"$tree/etc/fieldsync/config.toml"
    echo /etc/fieldsync/config.toml >"$tree/DEBIAN/conffiles"
    rm -r "$tree/usr/share/fieldsync" "$tree/DEBIAN/preinst"
    build "$tree" "$1"
}
