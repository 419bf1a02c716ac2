//! `tests/README.md` names the test that proves each promise: those tests exist.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the tests of a module may be: here or in one of the crates, in their own file or in that of the module.
fn files(module: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let inner = module.strip_suffix(&["tests"]).unwrap_or(module);
    ["tests/programs", "src", "crates/fieldsync-core/src", "crates/fieldsync-gateway/src"]
        .iter()
        .flat_map(|base| [module, inner].map(|module| root.join(base).join(module.join("/"))))
        .flat_map(|path| [path.with_extension("rs"), path.join("mod.rs")])
        .filter(|path| path.is_file())
        .collect()
}

fn is_there(test: &str) -> bool {
    let parts: Vec<&str> = test.split("::").collect();
    let (name, module) = parts.split_last().unwrap();
    let head = format!("fn {name}(");
    files(module).iter().any(|file| fs::read_to_string(file).unwrap().contains(&head))
}

#[test]
fn every_test_that_the_readme_names_is_there() {
    let readme = include_str!("../README.md");
    let code = readme.split('`').skip(1).step_by(2);
    let named: Vec<&str> = code.filter(|code| code.contains("::") && !code.contains(' ')).collect();
    assert!(named.len() > 50, "the tables are there");
    let missing: Vec<&str> = named.into_iter().filter(|test| !is_there(test)).collect();
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
