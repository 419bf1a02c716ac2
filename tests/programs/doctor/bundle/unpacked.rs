//! The files of an archive, unpacked in memory.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;

const DIRECTORY_PREFIX: &str = "fieldsync-bundle-van-12-";
/// Every file that a bundle may have, in the order of the archive.
const FILES: [&str; 15] = [
    "README.txt",
    "errors.txt",
    "doctor.txt",
    "doctor.json",
    "status.json",
    "alerts.json",
    "telemetry.json",
    "batches.json",
    "metrics.txt",
    "configuration.json",
    "manifest.ndjson",
    "versions.json",
    "units.txt",
    "journal.ndjson",
    "state-directory.txt",
];

/// The files of an archive by their names.
pub(super) struct Bundle(pub(super) BTreeMap<String, String>);

impl Bundle {
    #[track_caller]
    pub(super) fn unpack(archive: &[u8]) -> Self {
        let plain = zstd::decode_all(archive).unwrap();
        let mut files = BTreeMap::new();
        let mut order = Vec::new();
        for entry in tar::Archive::new(plain.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().into_owned();
            let directory = path.iter().next().unwrap().to_str().unwrap();
            assert!(directory.starts_with(DIRECTORY_PREFIX) && directory.ends_with('Z'), "{directory}");
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            if let Some(name) = path.iter().nth(1) {
                assert_eq!(path.iter().count(), 2, "{}", path.display());
                order.push(name.to_str().unwrap().to_owned());
                files.insert(name.to_str().unwrap().to_owned(), text);
            }
        }
        let expected: Vec<&str> = FILES.into_iter().filter(|name| files.contains_key(*name)).collect();
        assert_eq!(order, expected);
        Self(files)
    }

    #[track_caller]
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("{name} is missing: {}", self.0["README.txt"]))
    }

    #[track_caller]
    pub(super) fn json(&self, name: &str) -> Value {
        serde_json::from_str(self.text(name)).unwrap()
    }

    /// The lines of an NDJSON file.
    #[track_caller]
    pub(super) fn lines(&self, name: &str) -> Vec<Value> {
        self.text(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// No file contains any of these.
    #[track_caller]
    pub(super) fn lacks(&self, plants: &[&str]) {
        for (name, text) in &self.0 {
            for plant in plants {
                let found = text.lines().find(|line| line.to_lowercase().contains(&plant.to_lowercase()));
                assert_eq!(found, None, "{plant} is in {name}");
            }
        }
    }
}
