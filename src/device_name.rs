//! The name of this device: `device.name`, else the host's. Among many devices, people know a name better than an id.

use crate::config::Config;
use crate::model::DEVICE_NAME_LENGTH_MAX;

/// Printable ASCII, never empty, and short enough for a header.
pub(crate) fn device_name(config: &Config) -> String {
    config.device.name.clone().unwrap_or_else(|| {
        let host = nix::unistd::gethostname().unwrap_or_default();
        printable_name(&host.to_string_lossy())
    })
}

fn printable_name(host: &str) -> String {
    let is_shown = |letter: char| letter == ' ' || letter.is_ascii_graphic();
    let name = host.trim().chars().map(|letter| if is_shown(letter) { letter } else { '?' });
    let name: String = name.take(DEVICE_NAME_LENGTH_MAX).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_any_host_fits_a_header() {
        for (host, name) in [("van-12", "van-12"), (" ", "unnamed"), ("büro\n", "b?ro")] {
            assert_eq!(printable_name(host), name);
        }
        assert_eq!(printable_name(&"x".repeat(255)).len(), DEVICE_NAME_LENGTH_MAX);
        let mut config = Config::default();
        assert!(!device_name(&config).is_empty());
        config.device.name = Some("Van 12".into());
        assert_eq!(device_name(&config), "Van 12");
    }
}
