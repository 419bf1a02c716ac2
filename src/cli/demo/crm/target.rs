//! Which CRM the demo uses.

use std::net::SocketAddr;
use std::str::FromStr;

/// A CRM that a stand-in can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) enum CrmKind {
    Zoho,
    Salesforce,
}

/// What follows `--crm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli::demo) enum CrmTarget {
    /// A stand-in that the demo starts.
    Start(CrmKind),
    /// A stand-in that runs already.
    Running(SocketAddr),
}

impl CrmKind {
    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zoho => "zoho",
            Self::Salesforce => "salesforce",
        }
    }

    /// The name for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Zoho => "Zoho",
            Self::Salesforce => "Salesforce",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        [Self::Zoho, Self::Salesforce].into_iter().find(|kind| kind.name() == name)
    }

    /// What the names of fields end with that the CRM does not have by itself.
    pub(super) fn custom_suffix(self) -> &'static str {
        match self {
            Self::Zoho => "",
            Self::Salesforce => "__c",
        }
    }

    /// The modules for accounts and deals.
    pub(super) fn modules(self) -> [&'static str; 2] {
        match self {
            Self::Zoho => ["Accounts", "Deals"],
            Self::Salesforce => ["Account", "Opportunity"],
        }
    }
}

impl FromStr for CrmTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(kind) = CrmKind::from_name(text) {
            return Ok(Self::Start(kind));
        }
        let address = text.strip_prefix("http://").map(|rest| rest.trim_end_matches('/'));
        address.and_then(|address| address.parse().ok()).map(Self::Running).ok_or_else(|| {
            "must be zoho, salesforce, or a stand-in's address such as http://127.0.0.1:9090".into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crm_is_named_or_given_by_the_address_of_its_stand_in() {
        let address = "127.0.0.1:9090".parse().unwrap();
        for (text, expected) in [
            ("zoho", Some(CrmTarget::Start(CrmKind::Zoho))),
            ("salesforce", Some(CrmTarget::Start(CrmKind::Salesforce))),
            ("http://127.0.0.1:9090", Some(CrmTarget::Running(address))),
            ("http://127.0.0.1:9090/", Some(CrmTarget::Running(address))),
            ("https://www.zohoapis.com", None),
            ("Zoho", None),
        ] {
            assert_eq!(text.parse::<CrmTarget>().ok(), expected, "{text}");
        }
    }
}
