//! The charge of the battery, as `/sys/class/power_supply` tells
//! (Documentation/ABI/testing/sysfs-class-power of the kernel).

use std::fs;
use std::path::Path;

/// Where the kernel tells of power supplies.
pub const SUPPLIES: &str = "/sys/class/power_supply";

/// What the device runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// A charger, or a device without a battery, or one that does not tell.
    Mains,
    /// A battery with so many percent left.
    Battery(u8),
}

/// What the device runs on now; of several batteries the fullest counts.
pub fn look(supplies: &Path) -> Power {
    let Ok(entries) = fs::read_dir(supplies) else { return Power::Mains };
    let mut charge = None;
    for supply in entries.flatten().map(|entry| entry.path()) {
        let says = |name: &str| fs::read_to_string(supply.join(name)).unwrap_or_default().trim().to_owned();
        // The battery of a mouse or of a pen.
        if says("scope") == "Device" {
            continue;
        }
        if says("type") != "Battery" {
            if says("online") == "1" {
                return Power::Mains;
            }
        } else if let Ok(percent) = says("capacity").parse() {
            if says("status") == "Charging" {
                return Power::Mains;
            }
            charge = charge.max(Some(percent));
        }
    }
    charge.map_or(Power::Mains, Power::Battery)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supplies(of: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, files) in of {
            fs::create_dir(directory.path().join(name)).unwrap();
            for (file, text) in *files {
                fs::write(directory.path().join(name).join(file), format!("{text}\n")).unwrap();
            }
        }
        directory
    }

    #[test]
    fn a_battery_counts_only_where_nothing_else_feeds_the_device() {
        let battery = ("BAT0", &[("type", "Battery"), ("capacity", "17"), ("status", "Discharging")][..]);
        let second = ("BAT1", &[("type", "Battery"), ("capacity", "40"), ("status", "Not charging")][..]);
        let charging = ("BAT0", &[("type", "Battery"), ("capacity", "17"), ("status", "Charging")][..]);
        let away = ("AC", &[("type", "Mains"), ("online", "0")][..]);
        let plugged = ("usb", &[("type", "USB"), ("online", "1")][..]);
        let mouse = ("hid", &[("type", "Battery"), ("capacity", "90"), ("scope", "Device")][..]);
        let mute = ("BAT0", &[("type", "Battery")][..]);
        for (of, expected) in [
            (&[battery, away][..], Power::Battery(17)),
            (&[battery, second, mouse], Power::Battery(40)),
            (&[battery, plugged], Power::Mains),
            (&[charging], Power::Mains),
            (&[mute, away], Power::Mains),
            (&[mouse], Power::Mains),
            (&[], Power::Mains),
        ] {
            let directory = supplies(of);
            assert_eq!(look(directory.path()), expected, "{of:?}");
        }
        assert_eq!(look(Path::new("/nonexistent")), Power::Mains);
    }
}
