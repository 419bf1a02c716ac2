//! Which devices a client certificate is for.
//!
//! A certificate may name devices: by URIs `urn:uuid:DEVICE` among its alternative names, or, without one, by a common
//! name that is the id of a device. It then acts for these devices only, whatever token comes with it. Any other
//! certificate acts for the devices of its token, which is logged once. A name that is meant for a device or cannot be read
//! never has that effect. That an authority signed the certificate was verified by TLS.

use std::sync::Once;

use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{
    Any, BmpString, Ia5StringRef, PrintableStringRef, TeletexStringRef, Utf8StringRef,
};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::token_file::TokenScope;
use crate::model::DeviceId;

const DEVICE_URI_PREFIX: &str = "urn:uuid:";

/// It may be a mistake that a certificate names no device, which one line in the log shows.
static REPORT_GENERAL: Once = Once::new();

/// The devices of a connection's certificate.
#[derive(Clone, Debug)]
pub(crate) struct CertificateScope(pub(crate) TokenScope);

impl CertificateScope {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        // A certificate that TLS accepts and that cannot be read here acts for no device.
        Self(read_scope(certificate).unwrap_or_else(|| TokenScope::Devices(Vec::new())))
    }
}

fn read_scope(certificate: &CertificateDer<'_>) -> Option<TokenScope> {
    let content = Certificate::from_der(certificate).ok()?.tbs_certificate;
    let names = content.get::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
    let uris = names.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => strip_device_prefix(uri.as_str()),
        _ => None,
    });
    let mut devices = uris.map(parse_device).collect::<Option<Vec<DeviceId>>>()?;
    if devices.is_empty() {
        let attributes = content.subject.0.iter().flat_map(|relative| relative.0.iter());
        let common_names = attributes
            .filter(|attribute| attribute.oid == COMMON_NAME)
            // A name that cannot be read may be that of a device.
            .map(|attribute| read_text(&attribute.value))
            .collect::<Option<Vec<String>>>()?;
        for name in &common_names {
            match strip_device_prefix(name) {
                Some(device) => devices.push(parse_device(device)?),
                None => devices.extend(parse_device(name)),
            }
        }
    }
    if devices.is_empty() {
        REPORT_GENERAL.call_once(|| {
            tracing::warn!(
                subject = %content.subject,
                "a client certificate names no device: such certificates act for all devices of their token"
            );
        });
        return Some(TokenScope::AnyDevice);
    }
    Some(TokenScope::Devices(devices))
}

/// What follows the prefix of the URI of a device. Scheme and namespace have no case (RFC 8141, section 3.1).
fn strip_device_prefix(name: &str) -> Option<&str> {
    let (prefix, device) = name.trim().split_at_checked(DEVICE_URI_PREFIX.len())?;
    prefix.eq_ignore_ascii_case(DEVICE_URI_PREFIX).then_some(device)
}

/// The text of a name, in any type that X.509 has for it and that is still in use.
fn read_text(value: &Any) -> Option<String> {
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.to_string());
    utf8.or_else(|_| value.decode_as::<PrintableStringRef<'_>>().map(|text| text.to_string()))
        .or_else(|_| value.decode_as::<Ia5StringRef<'_>>().map(|text| text.to_string()))
        .or_else(|_| value.decode_as::<TeletexStringRef<'_>>().map(|text| text.to_string()))
        .or_else(|_| value.decode_as::<BmpString>().map(|text| text.to_string()))
        .ok()
}

fn parse_device(text: &str) -> Option<DeviceId> {
    Uuid::parse_str(text.trim()).ok().map(DeviceId)
}
