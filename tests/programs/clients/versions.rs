//! Each client has the version of the workspace, wherever it says so.

use std::fs;
use std::path::Path;

use super::adapter::clients;

/// Where a client says its version: a file, and what is before and after it.
const PLACES: [(&str, &str, &str); 4] = [
    ("python/fieldsync.py", "\n__version__ = \"", "\""),
    ("javascript/package.json", "\n  \"version\": \"", "\""),
    ("c/CMakeLists.txt", "\nproject(fieldsync VERSION ", " "),
    ("c/fieldsync.h", "\n#define FIELDSYNC_VERSION \"", "\""),
];

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

#[test]
fn each_client_has_the_version_of_the_workspace() {
    for (name, before, after) in PLACES {
        let text = fs::read_to_string(clients().join(name)).unwrap();
        assert_eq!(between(&text, before, after), Some(env!("CARGO_PKG_VERSION")), "clients/{name}");
    }
}

/// Neither archive can have a file from outside its directory, and an archive has no links.
#[test]
fn each_package_has_the_license_of_the_workspace() {
    let license = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE")).unwrap();
    for package in ["python", "javascript"] {
        let found = fs::read(clients().join(package).join("LICENSE"));
        assert!(found.is_ok_and(|found| found == license), "copy LICENSE to clients/{package}");
    }
}
