//! The pages about the gateway name every key, and their examples can be used.

use std::fs;
use std::path::Path;

use super::configuration::Setup;
use crate::support::postgres::ledger_in;

/// The keys of `docs/server.md`, each with its default, from the tables of the chapter about the file.
fn documented_keys(page: &str) -> Vec<(String, String)> {
    let chapter = page.split("## The configuration file").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in chapter.lines() {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        if let Some(name) = line.strip_prefix("### `[").and_then(|rest| rest.split_once(']')) {
            name.0.trim_matches('[').clone_into(&mut section);
        } else if let [_, key, default, ..] = columns[..]
            && let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`'))
        {
            keys.push((format!("{section}.{key}"), default.trim_matches('`').to_owned()));
        }
    }
    keys
}

#[test]
fn the_page_for_administrators_lists_every_key_with_its_default() {
    let page = fs::read_to_string("docs/server.md").unwrap();
    let documented = documented_keys(&page);
    let setup = Setup::with("");
    // An unknown key is answered with the names of all keys of the section.
    let sections = [
        "gateway",
        "destination",
        "destination.zoho",
        "destination.salesforce",
        "destination.type",
        "forward",
        "faults",
    ];
    let shown: toml::Table = setup.check(&[]).stdout.parse().unwrap();
    for section in sections {
        let header =
            if section == "destination.type" { "[[destination.type]]" } else { &format!("[{section}]") };
        // `[gateway]` is there already.
        let header = if section == "gateway" { "" } else { header };
        setup.write(&format!("{header}\nzzz = 1\n"));
        let said = setup.check(&[]).stderr;
        let (_, known) = said.split_once("known here: ").unwrap_or_else(|| panic!("{section}: {said}"));
        let tables = ["zoho", "salesforce", "type"];
        let mut known: Vec<String> = known
            .trim_end()
            .split(", ")
            .filter(|key| section != "destination" || !tables.contains(key))
            .map(|key| format!("{section}.{key}"))
            .collect();
        let mut named: Vec<String> = documented
            .iter()
            .map(|(key, _)| key.clone())
            .filter(|key| key.rsplit_once('.').is_some_and(|(of, _)| of == section))
            .collect();
        known.sort();
        named.sort();
        assert_eq!(known, named, "[{section}] in docs/server.md");
        for (key, default) in &documented {
            let Some((of, name)) = key.rsplit_once('.').filter(|(of, _)| *of == section) else { continue };
            let effective = shown.get(of).and_then(|keys| keys.get(name));
            let is_set_by_this_test = ["gateway.store", "gateway.listen"].contains(&key.as_str());
            if let Some(effective) = effective.filter(|_| !is_set_by_this_test) {
                assert_eq!(readable(effective), *default, "{key} in docs/server.md");
            } else if !is_set_by_this_test {
                assert!(["", "required"].contains(&default.as_str()), "{key} has no default `{default}`");
            }
        }
    }
}

fn readable(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.replace("days", "d"))
}

/// The examples of the documentation are complete: with the secrets that they name, a gateway takes them.
#[test]
fn the_examples_of_the_documentation_can_be_used() {
    for (page, first) in
        [("docs/zoho.md", "kind = \"zoho\""), ("docs/salesforce.md", "kind = \"salesforce\"")]
    {
        let text = fs::read_to_string(page).unwrap();
        let example =
            text.split("```").find(|block| block.starts_with("toml") && block.contains(first)).unwrap();
        check_example(Path::new(page), example.strip_prefix("toml").unwrap());
    }
    for file in ["config.toml", "etc-config.toml"] {
        let packaged = Path::new("packaging/debian/gateway").join(file);
        check_example(&packaged, &fs::read_to_string(&packaged).unwrap());
    }
}

fn check_example(page: &Path, example: &str) {
    let setup = Setup::with("");
    let placed: Vec<&str> =
        example.split('"').filter(|text| text.starts_with("/etc/fieldsync-gateway/")).collect();
    let mut local = example.to_owned();
    for path in placed {
        let own = setup.place(path.rsplit('/').next().unwrap(), "sesame\n");
        local = local.replace(path, &own);
    }
    setup.place("gateway.toml", &local);
    let checked = setup.check(&["--store", &ledger_in(setup.directory.path())]);
    assert_eq!(checked.code, Some(0), "{}: {}", page.display(), checked.stderr);
    assert_eq!(checked.stderr, "", "{}", page.display());
}
