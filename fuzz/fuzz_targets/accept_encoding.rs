//! `Accept-Encoding`: every value can be parsed, and only encodings that it names are accepted.
#![no_main]

use fieldsync::transport::encoding::ContentEncoding;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|header: &str| {
    let accepted = ContentEncoding::parse_accepted(header);
    let header = header.to_ascii_lowercase();
    assert!(accepted.len() <= 2);
    assert!(accepted.iter().all(|encoding| header.contains(encoding.name()) || header.contains('*')));
});
