//! The languages of the page: the one that a browser asks for, and its texts.
//!
//! `page/texts/` has one file for each language, with the same keys and placeholders. A new language is a new file there
//! and a new variant here.

use hyper::header::{ACCEPT_LANGUAGE, HeaderMap};
use serde_json::{Map, Value};

/// A language that the page has texts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Language {
    #[default]
    English,
    German,
    Spanish,
}

impl Language {
    pub(super) const ALL: [Self; 3] = [Self::English, Self::German, Self::Spanish];

    /// As in `Accept-Language` and in HTML.
    pub(super) fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::Spanish => "es",
        }
    }

    fn json(self) -> &'static str {
        match self {
            Self::English => include_str!("page/texts/en.json"),
            Self::German => include_str!("page/texts/de.json"),
            Self::Spanish => include_str!("page/texts/es.json"),
        }
    }

    /// The texts, in groups. Empty if the file is not valid, which a test excludes.
    pub(super) fn texts(self) -> Map<String, Value> {
        serde_json::from_str(self.json()).unwrap_or_default()
    }

    /// The language that a browser prefers (RFC 9110, section 12.5.4). English if the page has none of those it names.
    pub(super) fn negotiate(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|line| line.to_str().ok());
        let ranges = lines.flat_map(|line| line.split(',')).filter_map(parse_range);
        let known = ranges.filter_map(|(tag, weight)| Some((Self::of_tag(tag)?, weight)));
        // Of equal weights, the first one counts.
        let preferred = known.fold(None, |best: Option<(Self, f32)>, (language, weight)| match best {
            Some((_, highest)) if weight <= highest => best,
            _ if weight > 0.0 => Some((language, weight)),
            _ => best,
        });
        preferred.map_or_else(Self::default, |(language, _)| language)
    }

    /// `de-AT` is German.
    fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split('-').next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| primary.eq_ignore_ascii_case(language.tag()))
    }
}

/// `de-AT;q=0.8`
fn parse_range(range: &str) -> Option<(&str, f32)> {
    let (tag, parameter) = range.split_once(';').unwrap_or((range, "q=1"));
    let weight = parameter.trim().strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('=')?;
    let weight: f32 = weight.trim().parse().ok()?;
    Some((tag.trim(), weight)).filter(|(_, weight)| (0.0..=1.0).contains(weight))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use hyper::header::HeaderValue;

    use super::*;
    use crate::api::{AlertName, SyncReason};
    use crate::ipc::web::situation::VARIANTS;

    #[test]
    fn the_language_with_the_highest_weight_that_the_page_has_is_chosen() {
        for (header, expected) in [
            ("", "en"),
            ("de", "de"),
            ("DE-at", "de"),
            ("es-419,es;q=0.9,en;q=0.8", "es"),
            ("fr, de;q=0.5, en;q=0.8", "en"),
            ("fr-CH, fr;q=0.9, de;q=0.7, *;q=0.5", "de"),
            ("en;q=0.2,es ; q=0.8", "es"),
            ("de,es", "de"),
            ("de;q=0, es;q=0.1", "es"),
            ("de;q=0", "en"),
            ("fr, *", "en"),
            ("de;q=2, es;q=x, deutsch, ;;,,", "en"),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_LANGUAGE, HeaderValue::from_static(header));
            assert_eq!(Language::negotiate(&headers).tag(), expected, "{header}");
        }
        assert_eq!(Language::negotiate(&HeaderMap::new()), Language::English);
    }

    /// Each text by its group, key and plural form.
    fn flatten(language: Language) -> BTreeMap<String, String> {
        fn walk(path: &str, value: &Value, texts: &mut BTreeMap<String, String>) {
            match value {
                Value::String(text) => assert_eq!(texts.insert(path.to_owned(), text.clone()), None),
                Value::Object(group) => {
                    for (key, value) in group {
                        walk(&format!("{path}/{key}"), value, texts);
                    }
                }
                other => panic!("{path} is {other}"),
            }
        }
        let mut texts = BTreeMap::new();
        let value: Value = serde_json::from_str(language.json()).unwrap();
        walk("", &value, &mut texts);
        texts
    }

    fn placeholders(text: &str) -> BTreeSet<&str> {
        text.split('{').skip(1).map(|rest| rest.split_once('}').expect("a closed placeholder").0).collect()
    }

    #[test]
    fn every_language_has_the_same_texts_with_the_same_placeholders() {
        let english = flatten(Language::English);
        for language in Language::ALL {
            let texts = flatten(language);
            assert_eq!(
                texts.keys().collect::<Vec<_>>(),
                english.keys().collect::<Vec<_>>(),
                "{language:?} has other keys"
            );
            for (key, text) in &texts {
                assert!(!text.trim().is_empty(), "{language:?} {key} is empty");
                assert_eq!(placeholders(text), placeholders(&english[key]), "{language:?} {key}");
                // The name of the command stays.
                let prose = text.to_lowercase().replace("fieldsync quarantine ", "");
                for word in ["quarantin", "cuarentena", "set aside", " mend", "  "] {
                    assert!(!prose.contains(word), "{language:?} {key}: {text}");
                }
            }
            assert_eq!(language.texts()["language"], language.tag());
        }
        for (language, texts) in [(Language::German, "de"), (Language::Spanish, "es")] {
            let translated = flatten(language);
            let same: Vec<_> = english.iter().filter(|(key, text)| translated[*key] == **text).collect();
            assert!(same.len() < english.len() / 20, "{texts} is not translated: {same:?}");
        }
    }

    #[test]
    fn every_language_says_what_goes_on_for_every_reason_and_alert() {
        let is_without_remedy =
            |reason: SyncReason| matches!(reason, SyncReason::NothingToSend | SyncReason::Sending);
        for language in Language::ALL {
            let texts = language.texts();
            for reason in SyncReason::ALL {
                let name = reason.to_string();
                assert!(texts["situations"][&name].is_string(), "{language:?} has no {name}");
                let remedy = &texts["remedies"][&name];
                assert_eq!(remedy.is_string(), !is_without_remedy(*reason), "{language:?} {name}: {remedy}");
            }
            for variant in VARIANTS {
                assert!(texts["situations"][variant].is_string(), "{language:?} has no {variant}");
            }
            for alert in AlertName::ALL {
                let name = alert.to_string();
                // The records that need review are listed themselves.
                let is_listed = *alert != AlertName::NeedsReview;
                assert_eq!(texts["alerts"][&name].is_string(), is_listed, "{language:?}: {name}");
            }
        }
    }
}
