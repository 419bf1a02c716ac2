//! Which devices a client certificate is for.
//!
//! A certificate may name devices: by URIs `urn:uuid:DEVICE` among its alternative names, or, without one, by a common
//! name that is the id of a device. It then acts for these devices only, whatever token comes with it. Any other
//! certificate acts for the devices of its token. That an authority signed the certificate was verified by TLS.

use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::{PrintableStringRef, Utf8StringRef};
use x509_cert::der::oid::db::rfc4519::COMMON_NAME;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::token_file::TokenScope;
use crate::model::DeviceId;

const DEVICE_URI_PREFIX: &str = "urn:uuid:";

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
        GeneralName::UniformResourceIdentifier(uri) => uri.as_str().strip_prefix(DEVICE_URI_PREFIX),
        _ => None,
    });
    let mut devices = uris.map(parse_device).collect::<Option<Vec<DeviceId>>>()?;
    if devices.is_empty() {
        let attributes = content.subject.0.iter().flat_map(|relative| relative.0.iter());
        let common_names =
            attributes.filter(|attribute| attribute.oid == COMMON_NAME).filter_map(|attribute| {
                let utf8 = attribute.value.decode_as::<Utf8StringRef<'_>>().map(|text| text.to_string());
                utf8.or_else(|_| {
                    attribute.value.decode_as::<PrintableStringRef<'_>>().map(|text| text.to_string())
                })
                .ok()
            });
        devices.extend(common_names.filter_map(|name| parse_device(&name)));
    }
    Some(if devices.is_empty() { TokenScope::AnyDevice } else { TokenScope::Devices(devices) })
}

fn parse_device(text: &str) -> Option<DeviceId> {
    Uuid::parse_str(text).ok().map(DeviceId)
}
