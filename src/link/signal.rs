//! The strength of the wireless signal, from `/proc/self/net/wireless` (`net/wireless/wext-proc.c` of the kernel; some
//! kernels are built without it). A unit with `ProcSubset=pid` has no `/proc/net`.

use std::fs;
use std::path::Path;

/// The file in which the kernel describes wireless links.
pub const WIRELESS_FILE: &str = "/proc/self/net/wireless";

/// The best signal of the wireless interfaces in dBm, which is below zero, if the system reports it.
pub fn read_signal_dbm(wireless: &Path) -> Option<i16> {
    let table = fs::read_to_string(wireless).ok()?;
    table.lines().filter_map(parse_level).max()
}

/// ` wlan0: 0000   61.  -49.  -256 …`: interface, status, then link, level and noise; a dot marks a
/// fresh value. Drivers that do not know dBm report a level above zero.
fn parse_level(line: &str) -> Option<i16> {
    let (_, columns) = line.split_once(':')?;
    let level = columns.split_whitespace().nth(2)?;
    level.strip_suffix('.').unwrap_or(level).parse().ok().filter(|dbm| (-120..0).contains(dbm))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n \
                        face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n";

    #[test]
    fn the_level_is_reported_in_dbm_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("wireless");
        assert_eq!(read_signal_dbm(&file), None, "a kernel without the file");
        for (rows, expected) in [
            ("", None),
            (" wlan0: 0000   61.  -49.  -256        0      0      0      0      0        0\n", Some(-49)),
            ("wlp2s0: 0000   40.  -70   -256        0      0      0      0      0        0\n", Some(-70)),
            (" wlan0: 0000   40.  -81.  -256   0 0\n wlan1: 0000   61.  -49.  -256   0 0\n", Some(-49)),
            (" wlan0: 0000   58.   62.     0        0      0      0      0      0        0\n", None),
            (" wlan0: 0000    0    -256  -256        0      0      0      0      0        0\n", None),
            (" wlan0: 0000\n", None),
        ] {
            fs::write(&file, format!("{HEADER}{rows}")).unwrap();
            assert_eq!(read_signal_dbm(&file), expected, "{rows}");
        }
    }
}
