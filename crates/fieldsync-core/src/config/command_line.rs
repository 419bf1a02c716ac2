//! A program with its arguments, written as a path, or as an array: `["/usr/bin/logger", "-t", "alert"]`.

use std::fmt;
use std::path::Path;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::texts::TEXT_BYTES_MAX;

const ARGUMENTS_MAX: usize = 32;
/// How an array begins in an environment variable, which holds it as JSON.
const ARRAY_START: char = '[';

/// A program with its arguments. It is run without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    parts: Vec<String>,
}

impl CommandLine {
    /// The path of the program.
    pub fn program(&self) -> &Path {
        Path::new(self.parts.first().map_or("", String::as_str))
    }

    /// Its arguments.
    pub fn arguments(&self) -> &[String] {
        self.parts.get(1..).unwrap_or_default()
    }

    /// Why it cannot be used.
    pub(super) fn check(&self) -> Result<(), String> {
        if !self.program().is_absolute() {
            return Err(
                "must begin with the whole path of a program, for example /usr/local/bin/alert".into()
            );
        }
        if self.arguments().len() > ARGUMENTS_MAX {
            return Err(format!("must have at most {ARGUMENTS_MAX} arguments"));
        }
        for part in &self.parts {
            if part.contains(char::is_control) {
                return Err("must not contain control characters".into());
            }
            if part.len() > TEXT_BYTES_MAX {
                return Err(format!("must have at most {TEXT_BYTES_MAX} bytes in each argument"));
            }
        }
        Ok(())
    }
}

impl Serialize for CommandLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.parts.as_slice() {
            [program] => serializer.serialize_str(program),
            parts => serializer.collect_seq(parts),
        }
    }
}

impl<'de> Deserialize<'de> for CommandLine {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PathOrArray)
    }
}

struct PathOrArray;

impl<'de> Visitor<'de> for PathOrArray {
    type Value = CommandLine;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the path of a program, or an array such as [\"/usr/bin/logger\", \"-t\", \"alert\"]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<CommandLine, E> {
        let text = text.trim();
        if text.starts_with(ARRAY_START) {
            let parts = serde_json::from_str(text)
                .map_err(|error| E::custom(format!("`{text}` is not a JSON array of texts: {error}")))?;
            return Ok(CommandLine { parts });
        }
        Ok(CommandLine { parts: vec![text.to_owned()] })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<CommandLine, A::Error> {
        let mut parts = Vec::new();
        while let Some(part) = sequence.next_element()? {
            parts.push(part);
        }
        Ok(CommandLine { parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, Serialize)]
    struct Key {
        command: CommandLine,
    }

    fn read(value: &str) -> CommandLine {
        toml::from_str::<Key>(&format!("command = {value}")).unwrap().command
    }

    #[test]
    fn a_path_and_an_array_are_read_and_written_again() {
        for (value, program, arguments) in [
            ("'/bin/true'", "/bin/true", &[][..]),
            ("['/bin/true']", "/bin/true", &[]),
            ("['/bin/a b', '-t', '$x']", "/bin/a b", &["-t", "$x"]),
            ("'[\"/bin/true\", \"-t\"]'", "/bin/true", &["-t"]),
        ] {
            let command = read(value);
            assert_eq!(command.program(), Path::new(program));
            assert_eq!(command.arguments(), arguments);
            assert_eq!(command.check(), Ok(()));
            let written = toml::to_string(&Key { command: command.clone() }).unwrap();
            assert_eq!(toml::from_str::<Key>(&written).unwrap().command, command);
        }
    }

    #[test]
    fn a_command_that_cannot_run_is_refused() {
        let many = format!("['/bin/true'{}]", ", '-'".repeat(ARGUMENTS_MAX + 1));
        for (value, part) in [
            ("'true'", "whole path"),
            ("[]", "whole path"),
            ("['true', '/x']", "whole path"),
            ("['/bin/true', \"a\\nb\"]", "control characters"),
            (many.as_str(), "at most 32"),
        ] {
            let reason = read(value).check().unwrap_err();
            assert!(reason.contains(part), "{value}: {reason}");
        }
    }
}
