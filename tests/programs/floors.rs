//! Imports go down the floors that `ARCHITECTURE.md` names, and never in a circle between files. A `mod.rs` and its own
//! children may name each other. Paths in attributes are not read.

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
    /// The file's module, or one inside the file.
    module: Module,
    paths: Vec<Module>,
    /// What the file names for others: its `pub use`, by the path that others use.
    exports: BTreeMap<Module, Module>,
}

impl Imports {
    fn of(module: &Module, file: &Path) -> Self {
        let mut imports = Self { module: module.clone(), paths: Vec::new(), exports: BTreeMap::new() };
        let text = fs::read_to_string(file).unwrap();
        imports.visit_file(
            &syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display())),
        );
        imports
    }

    /// The path from the root of the crate; none for a name that may be of another crate.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let is_self = path.first().is_some_and(|name| name == "self");
        let path = &path[usize::from(is_self)..];
        let supers = path.iter().take_while(|name| *name == "super").count();
        let base = match path.first().map(String::as_str) {
            Some("crate") => return Some(path[1..].to_vec()),
            Some("super") => &self.module[..self.module.len().saturating_sub(supers)],
            _ if is_self => &self.module[..],
            _ => return None,
        };
        Some([base, &path[supers..]].concat())
    }

    fn add(&mut self, path: &[String]) {
        self.paths.extend(self.absolute(path));
    }

    fn add_export(&mut self, path: &[String], name: &syn::Ident) {
        // A name without `crate`, `self` or `super` is that of a child, or of another crate, which no module matches.
        let target = self.absolute(path).unwrap_or_else(|| [&self.module[..], path].concat());
        self.exports.insert([&self.module[..], &[name.to_string()]].concat(), target);
    }

    fn add_tree(&mut self, prefix: &[String], tree: &syn::UseTree, is_public: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        let (path, name) = match tree {
            syn::UseTree::Path(path) => return self.add_tree(&with(&path.ident), &path.tree, is_public),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_tree(prefix, tree, is_public));
            }
            syn::UseTree::Glob(_) => return self.add(prefix),
            syn::UseTree::Name(name) => (with(&name.ident), &name.ident),
            syn::UseTree::Rename(rename) => (with(&rename.ident), &rename.rename),
        };
        // Under another name, the crate or a parent would hide what is named through it.
        let is_alias = matches!(tree, syn::UseTree::Rename(_));
        let is_root = path.iter().all(|name| ["crate", "self", "super"].contains(&name.as_str()));
        assert!(
            !(is_alias && is_root),
            "{}: `{}` under another name",
            self.module.join("::"),
            path.join("::")
        );
        self.add(&path);
        if is_public {
            self.add_export(&path, name);
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
        if is_for_tests(&item.attrs) {
            return;
        }
        // The files of such a module are left out.
        assert!(item.ident != "tests", "{}: `tests` without `#[cfg(test)]`", self.module.join("::"));
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.add_tree(&[], &item.tree, !matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        // Tokens, as the arguments of a macro need not be Rust.
        let text = called.tokens.to_string().replace(" :: ", "::");
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        for path in words.filter(|word| word.contains("::")) {
            let names: Vec<String> = path.split("::").map(str::to_owned).collect();
            self.add(&names);
        }
        visit::visit_macro(self, called);
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
    let files: BTreeMap<&Module, Imports> =
        found.iter().map(|(module, file)| (module, Imports::of(module, file))).collect();
    let exports: BTreeMap<&Module, &Module> = files.values().flat_map(|file| &file.exports).collect();
    // A file that imports what a `mod.rs` exports of a child imports the child, too.
    let exported = |path: &Module| {
        (1..=path.len()).rev().find_map(|end| {
            let target = exports.get(&path[..end].to_vec())?;
            Some([&target[..], &path[end..]].concat())
        })
    };
    let targets = |(module, file): (&&Module, &Imports)| {
        let paths =
            file.paths.iter().flat_map(|path| std::iter::successors(Some(path.clone()), exported).take(5));
        let targets = paths.filter_map(|path| owner(&path)).filter(|target| target != *module);
        ((*module).clone(), targets.collect())
    };
    files.iter().map(targets).collect()
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
        // What imports nothing that is left is in no circle, and neither is what is not imported.
        let is_free = |imports: &BTreeMap<Module, BTreeSet<Module>>, module: &Module| {
            imports[module].is_empty() || !imports.values().any(|targets| targets.contains(module))
        };
        while let Some(free) = imports.keys().find(|module| is_free(&imports, module)).cloned() {
            imports.remove(&free);
            for targets in imports.values_mut() {
                targets.retain(|target| *target != free);
            }
        }
        let left: Vec<String> = imports.keys().map(|module| module.join("::")).collect();
        assert!(left.is_empty(), "{name}: in a circle, or between two: {left:?}");
    }
}

#[test]
fn every_crate_has_floors() {
    let below =
        fs::read_dir("crates").unwrap().map(|entry| format!("{}/src", entry.unwrap().path().display()));
    let sources: BTreeSet<String> = below.chain(["src".to_owned()]).collect();
    assert_eq!(sources, CRATES.map(|(_, source)| source.to_owned()).into());
}
