//! Every kind of response, and how the daemon handles it.

mod denied;
mod denied_status;
mod for_connectivity;
mod for_records;
mod for_requests;
mod hostile;
mod in_doubt;
mod intermediaries;
mod receipts;
mod refusals;
mod statuses;
mod storms;
