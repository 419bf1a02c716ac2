//! The kind of a network interface, from `/sys/class/net`
//! (Documentation/ABI/testing/sysfs-class-net of the kernel).

use std::fs;
use std::path::Path;

use crate::model::InterfaceKind;

/// The directory in which the kernel describes interfaces.
pub const INTERFACES_DIR: &str = "/sys/class/net";

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const ETHERNET_TYPE: &str = "1";
const LOOPBACK_TYPE: &str = "772";
/// Name prefixes of modems whose drivers do not report their kind.
const MODEM_PREFIXES: [&str; 3] = ["ppp", "wwan", "rmnet"];

/// The kind of an interface, if the system reports it.
pub fn interface_kind(interfaces: &Path, name: &str) -> Option<InterfaceKind> {
    let directory = interfaces.join(name);
    let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
    let kind = read("type")?;
    let device = read("uevent").unwrap_or_default();
    let is_a = |kind: &str| device.lines().any(|line| line.strip_prefix("DEVTYPE=") == Some(kind));
    Some(match kind.trim() {
        LOOPBACK_TYPE => InterfaceKind::Loopback,
        _ if is_a("wlan") || directory.join("wireless").exists() => InterfaceKind::Wifi,
        _ if is_a("wwan") || MODEM_PREFIXES.iter().any(|modem| name.starts_with(modem)) => {
            InterfaceKind::Cellular
        }
        ETHERNET_TYPE if device.lines().all(|line| !line.starts_with("DEVTYPE=")) => InterfaceKind::Ethernet,
        _ => InterfaceKind::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_their_kinds() {
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
            assert_eq!(interface_kind(directory.path(), name), expected, "{name}");
        }
        assert_eq!(interface_kind(directory.path(), "gone0"), None);
    }
}
