//! What kind of interface leads out, as `/sys/class/net` tells
//! (Documentation/ABI/testing/sysfs-class-net of the kernel).

use std::fs;
use std::path::Path;

use crate::model::InterfaceKind;

/// Where the kernel tells of interfaces.
pub const INTERFACES: &str = "/sys/class/net";

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const ETHERNET: &str = "1";
const LOOPBACK: &str = "772";
/// Drivers of modems that say nothing of their kind.
const MODEMS: [&str; 3] = ["ppp", "wwan", "rmnet"];

/// The kind of an interface; none where the system does not tell.
pub fn kind(interfaces: &Path, name: &str) -> Option<InterfaceKind> {
    let of = interfaces.join(name);
    let says = |file: &str| fs::read_to_string(of.join(file)).ok();
    let kind = says("type")?;
    let device = says("uevent").unwrap_or_default();
    let is_a = |kind: &str| device.lines().any(|line| line.strip_prefix("DEVTYPE=") == Some(kind));
    Some(match kind.trim() {
        LOOPBACK => InterfaceKind::Loopback,
        _ if is_a("wlan") || of.join("wireless").exists() => InterfaceKind::Wifi,
        _ if is_a("wwan") || MODEMS.iter().any(|modem| name.starts_with(modem)) => InterfaceKind::Cellular,
        ETHERNET if device.lines().all(|line| !line.starts_with("DEVTYPE=")) => InterfaceKind::Ethernet,
        _ => InterfaceKind::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        for (name, kind_of, uevent, expected) in [
            ("lo", "772", "INTERFACE=lo\n", Some(InterfaceKind::Loopback)),
            ("eth0", "1", "INTERFACE=eth0\n", Some(InterfaceKind::Ethernet)),
            ("wlan0", "1", "DEVTYPE=wlan\nINTERFACE=wlan0\n", Some(InterfaceKind::Wifi)),
            ("usb0", "1", "DEVTYPE=wwan\n", Some(InterfaceKind::Cellular)),
            ("ppp0", "512", "", Some(InterfaceKind::Cellular)),
            ("docker0", "1", "DEVTYPE=bridge\n", Some(InterfaceKind::Other)),
            ("tun0", "65534", "", Some(InterfaceKind::Other)),
        ] {
            fs::create_dir(directory.path().join(name)).unwrap();
            fs::write(directory.path().join(name).join("type"), format!("{kind_of}\n")).unwrap();
            fs::write(directory.path().join(name).join("uevent"), uevent).unwrap();
            assert_eq!(kind(directory.path(), name), expected, "{name}");
        }
        assert_eq!(kind(directory.path(), "gone0"), None);
    }
}
