//! Every kind of answer, and what the daemon makes of it.

mod denied;
mod denied_told;
mod for_records;
mod for_requests;
mod for_the_way;
mod hostile;
mod in_doubt;
mod refusals;
mod statuses;
mod storms;
mod strangers;
