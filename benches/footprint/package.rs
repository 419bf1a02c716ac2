//! The size of the device's Debian package and of the program in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::limits::Figure;
use crate::report::Report;

/// Unpacks the package into a directory.
pub(crate) fn measure_package(package: &Path, tree: &Path, report: &mut Report) {
    let unpacked = Command::new("dpkg-deb").arg("--extract").arg(package).arg(tree).status();
    assert!(unpacked.expect("dpkg is installed").success(), "{} is a package", package.display());
    report.add(Figure::Program, fs::metadata(tree.join("usr/bin/fieldsync")).ok().map(|file| file.len()));
    report.add(Figure::PackageUnpacked, Some(sum_sizes(tree)));
    report.add(Figure::PackagePacked, fs::metadata(package).ok().map(|file| file.len()));
}

fn sum_sizes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory of the package").flatten();
    let sizes = entries.map(|entry| {
        let metadata = entry.metadata().expect("a file");
        if metadata.is_dir() { sum_sizes(&entry.path()) } else { metadata.len() }
    });
    sizes.sum()
}
