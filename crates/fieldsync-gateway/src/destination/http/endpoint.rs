//! What calls need: the mapping, the client, tokens, limits and stops.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::auth::Authenticator;
use super::client::CallClient;
use super::codes::CodeTable;
use super::decode::{CallResponse, CallTrouble, DecodedCall, decode_response};
use super::encode::{EncodedRecord, encode_record};
use super::mapping::{HttpMapping, MappingError};
use super::mapping_check::check_complete;
use super::record_error::DecodeContext;
use super::stops::TypeStops;
use super::stored_ids::StoredIds;
use super::throttle::CallGate;
use super::token_budget::TokenBudget;
use crate::clock::Clock;
use crate::destination::delivery::{DESTINATION_STOPPED, Verdict};
use crate::http_client::build_https_client;
use crate::model::RecordId;
use crate::validated_batch::ValidatedRecord;

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
    pub(super) auth: Authenticator,
    pub(super) gate: CallGate,
    pub(super) stops: TypeStops,
    pub(super) stored_ids: StoredIds,
    pub(super) clock: Clock,
}

impl HttpEndpoint {
    /// The endpoint of a mapping; `budget` is shared by all that use its refresh token.
    pub(crate) fn new(
        mapping: HttpMapping,
        budget: Arc<dyn TokenBudget>,
    ) -> Result<Self, HttpDestinationError> {
        check_complete(&mapping)?;
        let clock = Clock::start();
        let client = Arc::new(CallClient::new(&mapping, build_https_client()?)?);
        let types = mapping.types.iter().enumerate();
        Ok(Self {
            codes: CodeTable::new(&mapping.codes),
            type_indices: types.map(|(index, record_type)| (record_type.name.clone(), index)).collect(),
            auth: Authenticator::new(mapping.auth.clone(), Arc::clone(&client), budget, clock),
            gate: CallGate::new(mapping.limits.clone(), mapping.max_records, clock),
            stops: TypeStops::default(),
            stored_ids: StoredIds::default(),
            client,
            clock,
            mapping,
        })
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
