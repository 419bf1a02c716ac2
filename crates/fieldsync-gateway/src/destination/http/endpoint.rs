//! What calls need: the mapping, the client, tokens, limits and stops.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Uri;
use tokio::time::timeout;

use super::auth::{Authenticator, Authorization};
use super::client::{CallClient, SendFailure};
use super::codes::CodeTable;
use super::decode::{CallResponse, CallTrouble, DecodedCall, decode_response};
use super::encode::{EncodedRecord, encode_record};
use super::mapping::{HttpMapping, MappingError};
use super::mapping_check::check_complete;
use super::record_error::DecodeContext;
use super::reload_cache::ReloadCache;
use super::stops::TypeStops;
use super::stored_ids::StoredIds;
use super::throttle::CallGate;
use crate::clock::Clock;
use crate::destination::delivery::{DESTINATION_STOPPED, StoppedType, Verdict};
use crate::http_client::build_https_client;
use crate::model::RecordId;
use crate::validated_batch::ValidatedRecord;

/// What hyper says of each failure to connect, before the cause.
const CONNECT_ERROR_PREFIX: &str = "client error (Connect): ";
/// When a record is tried again whose type has no mapping.
const UNMAPPED_RETRY_AFTER: Duration = Duration::from_mins(5);

const NO_MAPPING: &str = "the gateway has no mapping for the record type";
/// So many types without a mapping are named; devices could make up any number.
const UNMAPPED_NAMES_MAX: usize = 20;

/// Record types that were sent and have no mapping.
#[derive(Default)]
struct UnmappedTypes(Mutex<BTreeSet<String>>);

impl UnmappedTypes {
    fn note(&self, record_type: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < UNMAPPED_NAMES_MAX && !names.contains(record_type) {
            tracing::error!(record_type, "records wait at their devices: {NO_MAPPING} {record_type}");
            names.insert(record_type.to_owned());
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

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
    pub(super) gate: Arc<CallGate>,
    pub(super) stops: TypeStops,
    pub(super) stored_ids: StoredIds,
    unmapped: UnmappedTypes,
    pub(super) clock: Clock,
}

impl HttpEndpoint {
    /// The endpoint of a mapping, with what the cache has for it.
    pub(crate) fn new(mapping: HttpMapping, cache: &ReloadCache) -> Result<Self, HttpDestinationError> {
        check_complete(&mapping)?;
        let clock = Clock::start();
        let client = Arc::new(CallClient::new(&mapping, build_https_client()?)?);
        let types = mapping.types.iter().enumerate();
        Ok(Self {
            codes: CodeTable::new(&mapping.codes),
            type_indices: types.map(|(index, record_type)| (record_type.name.clone(), index)).collect(),
            auth: cache.obtain_authenticator(&mapping.auth, &client),
            gate: cache.obtain_gate(&mapping.limits, mapping.max_records),
            stops: TypeStops::default(),
            stored_ids: StoredIds::default(),
            unmapped: UnmappedTypes::default(),
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
            self.unmapped.note(&record.record_type);
            let reason = format!("{NO_MAPPING} {}", record.record_type);
            return Err(Verdict::retry(Some(UNMAPPED_RETRY_AFTER), DESTINATION_STOPPED, reason));
        };
        encode_record(&self.mapping, record_type, record).map(|encoded| (index, encoded))
    }

    /// The types that are not taken until an operator acts.
    pub(super) fn stopped_types(&self) -> Vec<StoppedType> {
        let stops = self.stops.reasons().into_iter();
        let named = stops.filter_map(|(index, reason)| {
            let record_type = self.mapping.types.get(index)?.name.clone();
            Some(StoppedType { record_type, reason })
        });
        let reason = |record_type: &String| format!("{NO_MAPPING} {record_type}");
        let unmapped = self.unmapped.names().into_iter();
        named
            .chain(unmapped.map(|record_type| StoppedType { reason: reason(&record_type), record_type }))
            .collect()
    }
}
