//! What calls need: the mapping, the client, tokens, limits and stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::time::timeout;

use super::auth::{Authenticator, Authorization};
use super::authenticator_cache::AuthenticatorCache;
use super::client::{CallClient, SendFailure};
use super::codes::CodeTable;
use super::decode::{CallResponse, CallTrouble, DecodedCall, decode_response};
use super::encode::{EncodedRecord, encode_record};
use super::mapping::{HttpMapping, MappingError};
use super::mapping_check::check_complete;
use super::record_error::DecodeContext;
use super::stops::TypeStops;
use super::stored_ids::StoredIds;
use super::throttle::CallGate;
use crate::clock::Clock;
use crate::destination::delivery::{DESTINATION_STOPPED, Verdict};
use crate::http_client::build_https_client;
use crate::model::RecordId;
use crate::validated_batch::ValidatedRecord;

/// What hyper says of each failure to connect, before the cause.
const CONNECT_ERROR_PREFIX: &str = "client error (Connect): ";
/// When a record is tried again whose type has no mapping.
const UNMAPPED_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Why a destination cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpDestinationError {
    #[error(transparent)]
    Mapping(#[from] MappingError),
    #[error("TLS to the destination cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// The destination as calls see it.
pub(crate) struct HttpEndpoint {
    pub(super) mapping: HttpMapping,
    codes: CodeTable,
    type_indices: HashMap<String, usize>,
    pub(super) client: Arc<CallClient>,
    pub(super) auth: Arc<Authenticator>,
    pub(super) gate: CallGate,
    pub(super) stops: TypeStops,
    pub(super) stored_ids: StoredIds,
    pub(super) clock: Clock,
}

impl HttpEndpoint {
    /// The endpoint of a mapping, with an authenticator of the cache.
    pub(crate) fn new(
        mapping: HttpMapping,
        authenticators: &AuthenticatorCache,
    ) -> Result<Self, HttpDestinationError> {
        check_complete(&mapping)?;
        let clock = Clock::start();
        let client = Arc::new(CallClient::new(&mapping, build_https_client()?)?);
        let types = mapping.types.iter().enumerate();
        Ok(Self {
            codes: CodeTable::new(&mapping.codes),
            type_indices: types.map(|(index, record_type)| (record_type.name.clone(), index)).collect(),
            auth: authenticators.obtain(&mapping.auth, &client),
            gate: CallGate::new(mapping.limits.clone(), mapping.max_records, clock),
            stops: TypeStops::default(),
            stored_ids: StoredIds::default(),
            client,
            clock,
            mapping,
        })
    }

    /// A call to `url` got no response. If that happens repeatedly, the destination cannot be reached, or its address
    /// is wrong.
    pub(super) async fn note_silence(
        &self,
        url: &str,
        failure: &SendFailure,
        authorization: &Authorization,
        time_left: Duration,
    ) {
        if failure.has_response {
            self.gate.note_response();
            return;
        }
        let uri = url.parse::<Uri>().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or("the destination");
        let cause = failure.reason.strip_prefix(CONNECT_ERROR_PREFIX).unwrap_or(&failure.reason);
        if self.gate.note_silence(&format!("{host} cannot be reached: {cause}")) {
            // If that takes too long, another call is asking for a new token already.
            timeout(time_left, self.auth.doubt_address(authorization.generation)).await.ok();
        }
    }

    pub(super) fn decode(
        &self,
        type_index: usize,
        response: &CallResponse,
        ids: &[RecordId],
    ) -> Result<DecodedCall, CallTrouble> {
        let Some(record_type) = self.mapping.types.get(type_index) else {
            return Err(CallTrouble::Stopped { reason: "the record type has no mapping".into() });
        };
        let context = DecodeContext { mapping: &self.mapping, codes: &self.codes, record_type };
        decode_response(&context, response, ids)
    }

    /// The type and the text of a record, or its verdict.
    pub(super) fn prepare_record(&self, record: &ValidatedRecord) -> Result<(usize, EncodedRecord), Verdict> {
        let mapped = self.type_indices.get(&record.record_type);
        let Some((index, record_type)) =
            mapped.and_then(|index| Some((*index, self.mapping.types.get(*index)?)))
        else {
            let reason = format!("the gateway has no mapping for the record type {}", record.record_type);
            return Err(Verdict::retry(Some(UNMAPPED_RETRY_AFTER), DESTINATION_STOPPED, reason));
        };
        encode_record(&self.mapping, record_type, record).map(|encoded| (index, encoded))
    }
}
