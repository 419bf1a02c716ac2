//! Fields of a form or a query.

use std::collections::HashMap;

/// Decodes `name=value&name=value`.
pub(crate) fn parse_form(text: &[u8]) -> HashMap<String, String> {
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            (decode(&pair[..end]), decode(pair.get(end + 1..).unwrap_or_default()))
        })
        .collect()
}

fn decode(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = &tail[2..];
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(*first),
        }
        rest = tail;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
