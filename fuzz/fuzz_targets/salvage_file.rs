//! Opens damaged stores as at a start: readable records survive, no record is invented, and every panic is contained.
//!
//! The first byte of an input says how the store is opened. The rest damages an intact store, step by step.
#![no_main]

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};

use fieldsync::store::fuzzing::{SoundStore, open, seal, shrink_pages};
use fieldsync::store::is_panic_expected;
use libfuzzer_sys::{Corpus, fuzz_target};

/// The file is as after a crash of the process.
const CRASHED: u8 = 1;
/// The rest of the input is the file itself.
const BARE: u8 = 2;
/// An earlier attempt to read the tables ended the process.
const RAW_ONLY: u8 = 4;
/// No damage is suspected: not everything is read.
const UNSUSPECTED: u8 = 8;
/// As by `fieldsync store salvage`: the file must not change.
const BY_HAND: u8 = 16;

const PAGE: usize = 4096;
/// The ids of forged records begin here.
const FORGED: u128 = 1 << 64;

/// The directory and the intact store for all inputs.
struct Workspace {
    directory: PathBuf,
    sound: SoundStore,
}

impl Workspace {
    fn new() -> Self {
        let directory = std::env::temp_dir().join(format!("fieldsync-{}", std::process::id()));
        clear(&directory);
        let sound = SoundStore::make(&directory);
        Self { directory, sound }
    }
}

fn clear(directory: &Path) {
    let _absent = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).expect("the directory can be created");
}

thread_local! {
    static WORKSPACE: OnceCell<Workspace> = const { OnceCell::new() };
}

/// As in the daemon: panics of redb that the store expects do not end the process.
fn expect_contained_panics() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_panic_expected() {
            hook(info);
        }
    }));
}

fuzz_target!(
    init: expect_contained_panics(),
    |input: &[u8]| -> Corpus { WORKSPACE.with(|workspace| run(workspace.get_or_init(Workspace::new), input)) }
);

fn run(workspace: &Workspace, input: &[u8]) -> Corpus {
    let Some((choice, damages)) = input.split_first() else { return Corpus::Reject };
    let has = |choices: u8| choice & choices != 0;
    let Workspace { directory, sound } = workspace;
    let mut file = if has(BARE) {
        damages.to_vec()
    } else {
        let mut file = if has(CRASHED) { sound.crashed.clone() } else { sound.closed.clone() };
        damage(&mut file, damages);
        file
    };
    shrink_pages(&mut file);
    clear(directory);
    let path = directory.join("queue.redb");
    fs::write(&path, &file).expect("the file can be written");
    let is_forged = |id| id >= FORGED;
    if has(BY_HAND) {
        sound.assert_salvaged(&path, directory, is_forged);
        assert!(fs::read(&path).is_ok_and(|after| after == file), "the file must not change");
    } else if has(UNSUSPECTED) {
        drop(open(directory));
    } else {
        let suspicion = if has(RAW_ONLY) { "2" } else { "" };
        fs::write(directory.join("queue.redb.suspect"), suspicion).expect("the file can be written");
        sound.assert_recovered(directory, is_forged);
    }
    Corpus::Keep
}

/// Damages the file, step by step.
fn damage(file: &mut Vec<u8>, mut script: &[u8]) {
    while let Some((kind, rest)) = script.split_first() {
        script = rest;
        if file.is_empty() {
            return;
        }
        match kind % 7 {
            // One byte changes.
            0 => {
                let (at, change) = (place(&mut script, file.len()), number(&mut script, 1) as u8);
                file[at] ^= change;
            }
            // Some bytes are replaced.
            1 => {
                let (at, some) = (place(&mut script, file.len()), some(&mut script));
                overwrite(file, at, some);
            }
            // A sector is lost.
            2 => {
                let page = place(&mut script, file.len()) / PAGE * PAGE;
                overwrite(file, page, &[0; PAGE]);
            }
            // A sector is replaced by another one, or by an old one.
            3 => {
                let from = place(&mut script, file.len()) / PAGE * PAGE;
                let to = place(&mut script, file.len()) / PAGE * PAGE;
                let page = file[from..file.len().min(from + PAGE)].to_vec();
                overwrite(file, to, &page);
            }
            // The end is lost.
            4 => file.truncate(place(&mut script, file.len())),
            // A record appears where none was written.
            5 => {
                let (at, id) = (place(&mut script, file.len()), FORGED + number(&mut script, 1) as u128);
                let place = number(&mut script, 8);
                let record_type = String::from_utf8_lossy(some(&mut script)).into_owned();
                let key = String::from_utf8_lossy(some(&mut script)).into_owned();
                let key = Some(&*key).filter(|key| !key.is_empty());
                overwrite(file, at, &seal(id, place, &record_type, key, "{}"));
            }
            // All occurrences of some bytes are replaced.
            _ => {
                let (old, new) = (some(&mut script), some(&mut script));
                replace(file, old, new);
            }
        }
    }
}

fn overwrite(file: &mut [u8], at: usize, some: &[u8]) {
    for (byte, new) in file[at..].iter_mut().zip(some) {
        *byte = *new;
    }
}

fn replace(file: &mut [u8], old: &[u8], new: &[u8]) {
    if old.len() < 4 {
        return;
    }
    let places: Vec<usize> =
        file.windows(old.len()).enumerate().filter(|(_, some)| *some == old).map(|(at, _)| at).collect();
    for at in places {
        overwrite(file, at, new);
    }
}

/// Takes this many bytes as a number.
fn number(script: &mut &[u8], bytes: usize) -> u64 {
    let (taken, rest) = script.split_at(bytes.min(script.len()));
    *script = rest;
    taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Takes three bytes as a position in the file.
fn place(script: &mut &[u8], length: usize) -> usize {
    number(script, 3) as usize % length
}

/// Takes bytes with a length prefix.
fn some<'a>(script: &mut &'a [u8]) -> &'a [u8] {
    let length = number(script, 1) as usize;
    let (taken, rest) = script.split_at(length.min(script.len()));
    *script = rest;
    taken
}
