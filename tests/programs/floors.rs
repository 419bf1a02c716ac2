//! Imports go down the floors that `ARCHITECTURE.md` names, and never in a circle between files. A `mod.rs` and its own
//! children may name each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A module by its path in the crate.
type Module = Vec<String>;

const CRATES: [(&str, &str); 3] = [
    ("fieldsync-core", "crates/fieldsync-core/src"),
    ("fieldsync-gateway", "crates/fieldsync-gateway/src"),
    ("fieldsync", "src"),
];

/// The paths that a file names, tests left out.
struct Imports {
    module: Module,
    paths: Vec<Module>,
}

impl Imports {
    fn of(module: &Module, file: &Path) -> Self {
        let mut imports = Self { module: module.clone(), paths: Vec::new() };
        let text = fs::read_to_string(file).unwrap();
        imports.visit_file(
            &syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        );
        imports
    }

    fn add(&mut self, path: &[String]) {
        let supers = path.iter().take_while(|name| *name == "super").count();
        let base = match path.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self") => self.module.clone(),
            Some("super") => self.module[..self.module.len().saturating_sub(supers)].to_vec(),
            _ => return,
        };
        let rest = path.iter().skip(supers.max(1)).cloned();
        self.paths.push(base.into_iter().chain(rest).collect());
    }

    fn add_tree(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(prefix, tree)),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(prefix),
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

impl<'ast> Visit<'ast> for Imports {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&names);
        visit::visit_path(self, path);
    }
}

/// Every file of a crate, tests left out.
fn files(source: &Path, below: &Path, found: &mut BTreeMap<Module, PathBuf>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            files(source, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests" {
            let relative = path.strip_prefix(source).unwrap().with_extension("");
            let names = relative.iter().map(|name| name.to_str().unwrap().to_owned());
            found.insert(
                names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect(),
                path,
            );
        }
    }
}

/// Which module imports which.
fn imports(source: &str) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut found = BTreeMap::new();
    files(Path::new(source), Path::new(source), &mut found);
    let owner = |path: &Module| {
        (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|path| found.contains_key(path))
    };
    let targets = |(module, file): (&Module, &PathBuf)| {
        let paths = Imports::of(module, file).paths;
        let targets = paths.iter().filter_map(owner).filter(|target| target != module);
        (module.clone(), targets.collect())
    };
    found.iter().map(targets).collect()
}

/// The floors of a crate, the lowest first: the lines of the block in `ARCHITECTURE.md` that follow its name.
fn floors(name: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let (_, block) = text.split_once(&format!("```text\n{name}\n")).expect("a block of its floors");
    let lines = block.lines().take_while(|line| *line != "```");
    let mut floors: Vec<Vec<String>> =
        lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    floors.reverse();
    floors
}

#[test]
fn imports_go_down_the_floors_of_the_architecture() {
    for (name, source) in CRATES {
        let floors = floors(name);
        let level = |room: &str| {
            let level = floors.iter().position(|floor| floor.iter().any(|named| named == room));
            level.unwrap_or_else(|| panic!("{name}: ARCHITECTURE.md names no floor of `{room}`"))
        };
        for (module, targets) in imports(source) {
            let Some(room) = module.first() else { continue };
            for target in targets.iter().filter(|target| target[0] != *room) {
                let (from, to) = (module.join("::"), target.join("::"));
                assert!(
                    level(&target[0]) < level(room),
                    "{name}: {from} imports {to}, which is not below it"
                );
            }
        }
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for (name, source) in CRATES {
        let mut imports = imports(source);
        for (module, targets) in &mut imports {
            targets.retain(|target| {
                target[..target.len() - 1] != module[..]
                    && module.split_last().is_none_or(|(_, up)| up != target)
            });
        }
        // What imports nothing that is left is in no circle.
        while let Some(free) =
            imports.iter().find(|(_, targets)| targets.is_empty()).map(|(module, _)| module.clone())
        {
            imports.remove(&free);
            for targets in imports.values_mut() {
                targets.retain(|target| *target != free);
            }
        }
        let left: Vec<String> = imports.keys().map(|module| module.join("::")).collect();
        assert!(left.is_empty(), "{name}: in a circle, or above one: {left:?}");
    }
}
