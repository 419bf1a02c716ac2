//! `fieldsync doctor --bundle FILE`: one archive with what support asks for, without secrets and data of records.
//!
//! It works without a daemon, with one that does not respond, and for every user: what is missing is named in it. Each
//! part has a limit of time and of size, which bounds the memory. Everything is collected before it is written, because
//! what the daemon reports last may be a string that must not be in the parts before.

mod archive;
mod daemon_documents;
mod journal;
mod manifest;
mod part;
mod readme;
mod redaction;
mod state_files;
mod system;
mod tool;

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use self::archive::BundleArchive;
use self::daemon_documents::DaemonDocuments;
use self::manifest::ManifestLines;
use self::part::{BundlePart, PartContent};
use self::readme::{BundleFacts, describe_bundle, list_errors};
use self::redaction::key_hash::KeyHasher;
use self::redaction::known_secrets::KnownStrings;
use self::redaction::text::TextRedactor;
use super::{DoctorArgs, DoctorRun, print_report, run_checks};
use crate::cli::context::CommandContext;
use crate::cli::export::{ExistingFile, ExportTarget};
use crate::cli::failure::CommandFailure;
use crate::cli::follow::Interrupt;
use crate::cli::format::{count, size};
use crate::clock::{rfc3339, wall_ms};
use crate::config::Config;
use crate::device_name::device_name;
use crate::exit;

const README_NAME: &str = "README.txt";
const ERRORS_NAME: &str = "errors.txt";
const STDOUT_NAME: &str = "-";
const DEVICE_CHARS_MAX: usize = 40;
const CHECKS_PURPOSE: &str = "what doctor found, and what to do about it";

/// Collects everything and writes the archive.
pub(super) async fn write_bundle(
    file: &Path,
    args: &DoctorArgs,
    context: &mut CommandContext<'_>,
) -> Result<u8, CommandFailure> {
    let is_stdout = file == Path::new(STDOUT_NAME);
    if is_stdout && context.is_terminal {
        return Err(CommandFailure::new(
            exit::USAGE,
            "an archive is not written to a terminal. Name a file, or redirect the output: fieldsync doctor --bundle - > FILE",
        ));
    }
    // Before the file is created, which is removed then.
    let mut interrupt = Interrupt::or_termination()?;
    let existing = if args.force { ExistingFile::Replace } else { ExistingFile::Keep };
    // Not `context.out`, which may escape characters of JSON.
    let mut stdout = io::stdout();
    // Opened first, so that a path that cannot be written fails before the collection.
    let target = ExportTarget::open_archive(file, &mut stdout, existing)?;
    let bundle = tokio::select! {
        bundle = collect_bundle(args, context) => bundle?,
        () = interrupt.wait() => return Err(CommandFailure::interrupted("")),
    };
    let files = bundle.files();
    let bytes: usize = files.iter().map(|(_, text)| text.len()).sum();
    let target = write_archive(target, &bundle.directory, bundle.time_ms / 1000, &files)
        .map_err(|error| CommandFailure::failed(format!("cannot write the bundle: {error}.")))?;
    let number = files.len() as u64;
    let written = target.finish()?.into_file();
    bundle.report(written.as_deref(), number, bytes as u64, context)
}

fn write_archive<'a>(
    target: ExportTarget<'a>,
    directory: &str,
    time_s: u64,
    files: &[(&str, &str)],
) -> io::Result<ExportTarget<'a>> {
    let mut archive = BundleArchive::create(target, directory.to_owned(), time_s)?;
    for (name, text) in files {
        archive.add_file(name, text.as_bytes())?;
    }
    let mut target = archive.finish()?;
    target.flush()?;
    Ok(target)
}

/// Everything that is in the archive.
struct Bundle {
    /// `fieldsync-bundle-<device>-<time>`
    directory: String,
    time_ms: u64,
    readme: String,
    errors: String,
    parts: Vec<BundlePart>,
}

impl Bundle {
    /// In the order of the archive.
    fn files(&self) -> Vec<(&str, &str)> {
        let collected = self.parts.iter().filter_map(|part| match &part.content {
            PartContent::Collected { text, .. } => Some((part.name, text.as_str())),
            PartContent::LeftOut { .. } => None,
        });
        let first = [(README_NAME, self.readme.as_str()), (ERRORS_NAME, self.errors.as_str())];
        first.into_iter().chain(collected).collect()
    }

    /// Says what was written and what is missing: on standard error if the archive is on standard output.
    fn report(
        &self,
        file: Option<&Path>,
        files: u64,
        bytes: u64,
        context: &mut CommandContext<'_>,
    ) -> Result<u8, CommandFailure> {
        let left_out: Vec<(&str, &str)> = self
            .parts
            .iter()
            .filter_map(|part| match &part.content {
                PartContent::LeftOut { reason } => Some((part.name, reason.as_str())),
                PartContent::Collected { .. } => None,
            })
            .collect();
        if let (Some(file), true) = (file, context.json) {
            let left_out: Vec<Value> =
                left_out.iter().map(|(name, reason)| json!({"file": name, "reason": reason})).collect();
            let report = json!({"file": file.to_string_lossy(), "directory": self.directory, "files": files,
                "bytes": bytes, "left_out": left_out});
            context.print_line(report.to_string())?;
            return Ok(exit::DONE);
        }
        let name = file.map_or("standard output".into(), Path::to_string_lossy);
        let mut lines = vec![format!("{} written to {name} ({})", count(files, "file"), size(bytes))];
        // Several parts may have one reason.
        let same_reason = left_out.chunk_by(|(_, reason), (_, next)| reason == next);
        lines.extend(same_reason.filter_map(|parts| {
            let names: Vec<&str> = parts.iter().map(|(name, _)| *name).collect();
            Some(format!("Left out: {}: {}", names.join(", "), parts.first()?.1))
        }));
        lines.push("It has no payloads, keys or secrets; look through it before you pass it on.".to_owned());
        for line in lines {
            if file.is_some() { context.print_wrapped(line)? } else { context.print_note(&line) }
        }
        Ok(exit::DONE)
    }
}

async fn collect_bundle(
    args: &DoctorArgs,
    context: &mut CommandContext<'_>,
) -> Result<Bundle, CommandFailure> {
    let no_redaction = || CommandFailure::failed("the redaction cannot be prepared; nothing was written.");
    let time_ms = wall_ms();
    let hasher = KeyHasher::new().ok_or_else(no_redaction)?;
    let mut known = KnownStrings::gather(args.config.as_deref());
    let DoctorRun { mut report, config, location, silence } = run_checks(args, context).await;
    let (documents, manifest) = match &silence {
        None => {
            let documents = DaemonDocuments::fetch(&context.client).await;
            // Messages about whole requests first: the number of messages is limited.
            documents.add_known_strings(&mut known);
            (documents, ManifestLines::fetch(&context.client, &mut known, &hasher).await)
        }
        Some(reason) => {
            (DaemonDocuments::without_daemon(reason, &location), ManifestLines::without_daemon(reason))
        }
    };
    let texts = TextRedactor::new(&known).ok_or_else(no_redaction)?;
    report.redact_texts(|text| texts.redact(text));

    let status = documents.status.as_ref().ok();
    let text_of = |field: &str| status.and_then(|status| status[field].as_str()).map(str::to_owned);
    let (daemon_version, counts) = (text_of("version"), status.map(|status| status["records"].clone()));
    let device = text_of("device_name").unwrap_or_else(|| device_name(&config.clone().unwrap_or_default()));
    let mut parts = vec![
        render_checks(&report, context)?,
        BundlePart::new("doctor.json", CHECKS_PURPOSE, to_json(&report)),
    ];
    parts.extend(documents.into_parts(&hasher, &texts));
    parts.push(manifest.into_part(counts.as_ref()));
    // At once, so that their time limits do not add up.
    let (versions, units, journal) = tokio::join!(
        system::collect_versions(daemon_version.as_deref()),
        system::collect_units(&texts),
        journal::collect_journal(&texts),
    );
    parts.extend([versions, units, journal]);
    parts.push(state_files::list_state_files(config.as_ref().map(Config::state_dir), &texts));

    let device = texts.redact_secrets(&device);
    let time = rfc3339(time_ms);
    let user = super::access::User::current().name;
    let readme = describe_bundle(&BundleFacts { device: &device, time: &time, user: &user }, &parts);
    let errors = list_errors(&parts);
    Ok(Bundle { directory: name_directory(&device, &time), time_ms, readme, errors, parts })
}

/// Doctor's findings, as its own output.
fn render_checks(
    report: &super::DoctorReport,
    context: &CommandContext<'_>,
) -> Result<BundlePart, CommandFailure> {
    let mut text = Vec::new();
    let mut into_text = CommandContext {
        client: context.client.clone(),
        named_socket: None,
        json: false,
        is_terminal: false,
        width: None,
        has_colour: false,
        has_pager: false,
        out: &mut text,
    };
    print_report(report, &mut into_text)?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(BundlePart::collected("doctor.txt", CHECKS_PURPOSE, text))
}

fn to_json(report: &super::DoctorReport) -> Result<(String, Option<String>), String> {
    let json = serde_json::to_string_pretty(report).map_err(|error| error.to_string())?;
    Ok((json + "\n", None))
}

/// `fieldsync-bundle-van-12-20261129T104400Z`
fn name_directory(device: &str, time: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    let device: String = device
        .chars()
        .take(DEVICE_CHARS_MAX)
        .map(|letter| if is_plain(letter) { letter } else { '-' })
        .collect();
    let seconds = time.split('.').next().unwrap_or(time);
    let digits: String = seconds.chars().filter(|letter| letter.is_ascii_digit() || *letter == 'T').collect();
    format!("fieldsync-bundle-{device}-{digits}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_named_by_device_and_time() {
        let name = name_directory("Van 12/../x", "2026-11-29T10:44:00.123Z");
        assert_eq!(name, "fieldsync-bundle-Van-12-..-x-20261129T104400Z");
    }

    #[test]
    fn the_same_content_makes_the_same_archive() {
        let pack = || {
            let mut archive = BundleArchive::create(Vec::new(), "d".to_owned(), 1_700_000_000).unwrap();
            archive.add_file("a.txt", b"a").unwrap();
            archive.finish().unwrap()
        };
        let archive = pack();
        assert_eq!(archive, pack());
        let plain = zstd::decode_all(archive.as_slice()).unwrap();
        let mut unpacked = tar::Archive::new(plain.as_slice());
        let paths: Vec<_> =
            unpacked.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, [Path::new("d/"), Path::new("d/a.txt")]);
    }
}
