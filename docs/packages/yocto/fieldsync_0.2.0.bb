# A recipe for OpenEmbedded, with two packages: fieldsync and fieldsync-gateway. docs/packages/README.md explains it.
SUMMARY = "Keeps records of field devices durably and syncs each of them once"
SECTION = "net"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://packaging/debian/copyright;md5=7cd4183e25ffd6f310fe82785ad9c32e"

# Where your copy of the repository is.
SRC_URI = "git://git.example.com/fieldsync.git;protocol=https;branch=main"
SRCREV = "0000000000000000000000000000000000000000"
# packaging/yocto-crates writes it, or "bitbake -c update_crates fieldsync".
require ${BPN}-crates.inc

inherit cargo cargo-update-recipe-crates systemd useradd

# Only what is installed; the workspace also has programs for tests.
CARGO_BUILD_FLAGS += "--package fieldsync --package fieldsync-gateway --bin fieldsync --bin fieldsync-gateway"

do_install() {
    install -d ${D}${bindir}
    for program in fieldsync fieldsync-gateway; do
        install -m 0755 ${B}/target/${CARGO_TARGET_SUBDIR}/$program ${D}${bindir}
    done
    # The daemon is the same program.
    ln -s fieldsync ${D}${bindir}/fieldsyncd

    install -D -m 0644 ${S}/config.toml ${D}${datadir}/fieldsync/config.toml
    install -D -m 0644 ${S}/packaging/debian/gateway/config.toml ${D}${datadir}/fieldsync-gateway/config.toml
    install -d ${D}${sysconfdir}/fieldsync/conf.d
    install -m 0644 ${S}/packaging/debian/device/etc-config.toml ${D}${sysconfdir}/fieldsync/config.toml
    install -d -m 0750 ${D}${sysconfdir}/fieldsync-gateway
    install -m 0640 ${S}/packaging/debian/gateway/etc-config.toml ${D}${sysconfdir}/fieldsync-gateway/config.toml
    install -D -m 0644 ${S}/packaging/debian/gateway/etc-default ${D}${sysconfdir}/default/fieldsync-gateway
    chgrp -R fieldsync-gateway ${D}${sysconfdir}/fieldsync-gateway

    install -d ${D}${systemd_system_unitdir}
    for unit in fieldsync.service fieldsync.socket fieldsync-gateway.service; do
        install -m 0644 ${S}/systemd/$unit ${D}${systemd_system_unitdir}
    done
    for package in fieldsync fieldsync-gateway; do
        install -D -m 0644 ${S}/systemd/$package.tmpfiles.conf ${D}${nonarch_libdir}/tmpfiles.d/$package.conf
        install -D -m 0644 ${S}/systemd/$package.sysusers.conf ${D}${nonarch_libdir}/sysusers.d/$package.conf
    done
    install -D -m 0644 ${S}/systemd/fieldsync.catalog ${D}${nonarch_libdir}/systemd/catalog/fieldsync.catalog

    if ${@bb.utils.contains('DISTRO_FEATURES', 'sysvinit', 'true', 'false', d)}; then
        bbwarn "fieldsync has no script for sysvinit: start ${bindir}/fieldsyncd as the user fieldsync in one of your own"
    fi
}

PACKAGES =+ "${PN}-gateway"
SUMMARY:${PN}-gateway = "Server side of fieldsync: accepts batches and applies each record once"
FILES:${PN}-gateway = " \
    ${bindir}/fieldsync-gateway \
    ${datadir}/fieldsync-gateway \
    ${sysconfdir}/fieldsync-gateway \
    ${sysconfdir}/default/fieldsync-gateway \
    ${systemd_system_unitdir}/fieldsync-gateway.service \
    ${nonarch_libdir}/tmpfiles.d/fieldsync-gateway.conf \
    ${nonarch_libdir}/sysusers.d/fieldsync-gateway.conf \
"
FILES:${PN} += "${datadir}/fieldsync ${nonarch_libdir}/systemd/catalog ${nonarch_libdir}/tmpfiles.d ${nonarch_libdir}/sysusers.d"
# An upgrade keeps these files if they were edited.
CONFFILES:${PN} = "${sysconfdir}/fieldsync/config.toml"
CONFFILES:${PN}-gateway = "${sysconfdir}/fieldsync-gateway/config.toml ${sysconfdir}/default/fieldsync-gateway"
# The authorities that are trusted unless the configuration names others.
RRECOMMENDS:${PN} = "ca-certificates"
RRECOMMENDS:${PN}-gateway = "ca-certificates"

USERADD_PACKAGES = "${PN} ${PN}-gateway"
USERADD_PARAM:${PN} = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/fieldsync --shell /sbin/nologin fieldsync"
USERADD_PARAM:${PN}-gateway = "--system --user-group --no-create-home --home-dir ${localstatedir}/lib/fieldsync-gateway --shell /sbin/nologin fieldsync-gateway"

# An administrator configures the gateway before it is enabled.
SYSTEMD_PACKAGES = "${PN} ${PN}-gateway"
SYSTEMD_SERVICE:${PN} = "fieldsync.socket fieldsync.service"
SYSTEMD_SERVICE:${PN}-gateway = "fieldsync-gateway.service"
SYSTEMD_AUTO_ENABLE:${PN}-gateway = "disable"
