//! The manual page names every option. (The tests of the device run this program, too: it is built for this one.)

use std::process::Command;

#[test]
fn the_manual_names_every_option_of_the_help() {
    let print = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_fieldsync-gateway")).arg(argument).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().replace("\\-", "-")
    };
    let (help, manual) = (print("--help"), print("--manual"));
    let words = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let options: Vec<&str> = words.filter(|word| word.starts_with("--") && word.len() > 2).collect();
    assert!(options.contains(&"--token-file"), "{options:?}");
    for option in options {
        assert!(manual.contains(option), "{option}");
    }
    for section in ["NAME", "SYNOPSIS", "SIGNALS", "\"EXIT STATUS\"", "\"SEE ALSO\""] {
        assert!(manual.contains(&format!(".SH {section}\n")), "{section}");
    }
}
