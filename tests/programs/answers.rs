//! Every kind of answer, and what the daemon makes of it.

mod for_records;
mod for_requests;
mod for_the_way;
mod hostile;
mod statuses;
