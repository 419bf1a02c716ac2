//! The search through the raw bytes of a damaged store, and the rows of its tables.
//!
//! The first byte of an input says which checksums are corrected first, because a fuzzer cannot find valid ones.
#![no_main]

use std::cell::RefCell;

use fieldsync::store::fuzzing::{Carver, assert_rows, reseal};
use libfuzzer_sys::fuzz_target;

const SEAL: u8 = 1;
const DIGEST: u8 = 2;
const ROWS: u8 = 4;

thread_local! {
    static CARVER: RefCell<Carver> = RefCell::new(Carver::new());
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else { return };
    if choice & ROWS != 0 {
        return assert_rows(bytes);
    }
    let mut bytes = bytes.to_vec();
    if choice & SEAL != 0 {
        reseal(&mut bytes, choice & DIGEST != 0);
    }
    CARVER.with_borrow_mut(|carver| carver.assert_carved(&bytes));
});
