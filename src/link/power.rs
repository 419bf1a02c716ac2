//! The charge of the battery, from `/sys/class/power_supply`
//! (Documentation/ABI/testing/sysfs-class-power of the kernel).

use std::fs;
use std::path::Path;

/// The directory in which the kernel describes power supplies.
pub const SUPPLIES_DIR: &str = "/sys/class/power_supply";

/// The power source of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// A charger, or a device that has or reports no battery.
    Mains,
    /// A battery, with its charge in percent.
    Battery(u8),
}

/// The present power source. Of several batteries the fullest counts.
pub fn read_power(supplies: &Path) -> Power {
    let Ok(entries) = fs::read_dir(supplies) else { return Power::Mains };
    let mut charge = None;
    for supply in entries.flatten().map(|entry| entry.path()) {
        let read = |name: &str| fs::read_to_string(supply.join(name)).unwrap_or_default().trim().to_owned();
        // The battery of a mouse or a pen.
        if read("scope") == "Device" {
            continue;
        }
        if read("type") != "Battery" {
            if read("online") == "1" {
                return Power::Mains;
            }
        } else if let Ok(percent) = read("capacity").parse() {
            if read("status") == "Charging" {
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

    fn supplies_dir(of: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
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
    fn a_battery_counts_only_if_no_charger_is_connected() {
        let battery = ("BAT0", &[("type", "Battery"), ("capacity", "17"), ("status", "Discharging")][..]);
        let second = ("BAT1", &[("type", "Battery"), ("capacity", "40"), ("status", "Not charging")][..]);
        let charging = ("BAT0", &[("type", "Battery"), ("capacity", "17"), ("status", "Charging")][..]);
        let away = ("AC", &[("type", "Mains"), ("online", "0")][..]);
        let plugged = ("usb", &[("type", "USB"), ("online", "1")][..]);
        let mouse = ("hid", &[("type", "Battery"), ("capacity", "90"), ("scope", "Device")][..]);
        let silent = ("BAT0", &[("type", "Battery")][..]);
        for (of, expected) in [
            (&[battery, away][..], Power::Battery(17)),
            (&[battery, second, mouse], Power::Battery(40)),
            (&[battery, plugged], Power::Mains),
            (&[charging], Power::Mains),
            (&[silent, away], Power::Mains),
            (&[mouse], Power::Mains),
            (&[], Power::Mains),
        ] {
            let directory = supplies_dir(of);
            assert_eq!(read_power(directory.path()), expected, "{of:?}");
        }
        assert_eq!(read_power(Path::new("/nonexistent")), Power::Mains);
    }
}
