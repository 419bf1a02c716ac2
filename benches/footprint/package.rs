//! The size of the programs and of the device's package, from the list of its files in `Cargo.toml`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::limits::Figure;
use crate::report::Report;

/// Where the manifest expects the programs, and what `packaging/build-deb` generates.
const PROGRAMS_DIR: &str = "target/release/";
const GENERATED_DIR: &str = "target/package/fieldsync/";
const LINKS_DIR: &str = "target/package/link/";
/// What the links lead to.
const LINKED_PROGRAM: &str = "fieldsync";

#[derive(Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Deserialize)]
struct Package {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    deb: Deb,
}

#[derive(Deserialize)]
struct Deb {
    /// Source, destination and mode of each file.
    assets: Vec<[String; 3]>,
}

pub(crate) fn measure_package(programs: &Path, dir: &Path, report: &mut Report) {
    let room = tempfile::tempdir_in(dir).expect("a directory");
    let tree = room.path().join("tree");
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(repository.join("Cargo.toml")).expect("the manifest");
    let manifest: Manifest = toml::from_str(&manifest).expect("a manifest with the files of the package");
    for [source, destination, _] in &manifest.package.metadata.deb.assets {
        let destination = tree.join(destination);
        if let Some(program) = source.strip_prefix(PROGRAMS_DIR) {
            add_program(&programs.join(program), &destination.join(program));
        } else if let Some(name) = source.strip_prefix(LINKS_DIR) {
            symlink(LINKED_PROGRAM, destination.join(name)).expect("a link");
        } else if source.starts_with(GENERATED_DIR) {
            generate_documentation(programs, &destination);
        } else {
            add_files(repository, source, &destination);
        }
    }
    report.add(
        Figure::Program,
        fs::metadata(tree.join("usr/bin").join(LINKED_PROGRAM)).ok().map(|file| file.len()),
    );
    let alone = room.path().join("fieldsyncd");
    add_program(&programs.join("fieldsyncd"), &alone);
    report.add(Figure::Daemon, fs::metadata(&alone).ok().map(|file| file.len()));
    report.add(Figure::PackageUnpacked, Some(sum_sizes(&tree)));
    report.add(Figure::PackagePacked, pack_tree(&tree));
}

/// As it is installed: without symbols.
fn add_program(source: &Path, destination: &Path) {
    create_parent(destination);
    let stripped = Command::new("strip").arg("-o").arg(destination).arg(source).status();
    assert!(stripped.expect("binutils are installed").success(), "{} can be stripped", source.display());
}

/// As `packaging/build-deb` does. The changelog is not worth a row.
fn generate_documentation(programs: &Path, share: &Path) {
    let manuals = share.join("man");
    fs::create_dir_all(&manuals).expect("a directory");
    let command_line = programs.join("fieldsync");
    let written = Command::new(&command_line).arg("manuals").arg(&manuals).stdout(Stdio::null()).status();
    assert!(written.expect("the command line runs").success(), "the manual pages are written");
    for entry in fs::read_dir(&manuals).expect("the manual pages").flatten() {
        // cargo-deb packs them.
        let packed = Command::new("gzip").arg("--best").arg(entry.path()).status();
        assert!(packed.expect("gzip is installed").success(), "a manual page is packed");
    }
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(&command_line).args(["completions", shell]).output();
        fs::write(share.join(shell), output.expect("the command line runs").stdout).expect("a file");
    }
}

/// The files of a pattern whose last part may contain one `*`.
fn add_files(repository: &Path, pattern: &str, destination: &Path) {
    let source = repository.join(pattern);
    let name = source.file_name().and_then(|name| name.to_str()).expect("a pattern").to_owned();
    let directory = source.parent().expect("a file is in a directory");
    // A destination with an extension is the name of the file.
    let is_directory = destination.to_string_lossy().ends_with('/');
    let Some((start, end)) = name.split_once('*') else {
        let target = if is_directory { destination.join(&name) } else { destination.to_owned() };
        return copy_file(&source, &target);
    };
    for entry in fs::read_dir(directory).expect("the directory of the pattern").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_file() && name.starts_with(start) && name.ends_with(end) {
            copy_file(&entry.path(), &destination.join(name));
        }
    }
}

fn copy_file(source: &Path, destination: &Path) {
    create_parent(destination);
    fs::copy(source, destination).expect("a file of the package is in the repository");
}

fn create_parent(path: &Path) {
    fs::create_dir_all(path.parent().expect("a file is in a directory")).expect("a directory");
}

fn sum_sizes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).expect("a directory of the package").flatten();
    let sizes = entries.map(|entry| {
        let path: PathBuf = entry.path();
        if path.is_dir() { sum_sizes(&path) } else { path.symlink_metadata().expect("a file").len() }
    });
    sizes.sum()
}

/// The size of `data.tar.xz`; the rest of a Debian package is a few KiB.
fn pack_tree(tree: &Path) -> Option<u64> {
    let archive = tree.with_extension("tar");
    let packed = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&archive).arg(".").status();
    assert!(packed.expect("tar is installed").success(), "the files are packed");
    let compressed = Command::new("xz").arg("-6").arg(&archive).status();
    assert!(compressed.expect("xz is installed").success(), "the archive is compressed");
    fs::metadata(tree.with_extension("tar.xz")).ok().map(|file| file.len())
}
