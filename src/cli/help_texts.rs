//! Help of the whole program, below its commands and options.

pub(super) const EXAMPLES: &str = "\
Examples:
  fieldsync status --watch             follow the status, with a progress bar
  fieldsync enqueue visits.ndjson      enqueue records
  fieldsync sync --wait                send now, and wait until nothing is left
  fieldsync quarantine list            list the records that need review
  fieldsync logs -f                    follow the messages of the daemon
  fieldsync demo                       try it without an installation";

pub(super) const REVIEW_EXAMPLES: &str = "\
Examples:
  fieldsync quarantine list
  fieldsync quarantine add 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine edit 0191b3a0-0000-7000-8000-000000000000
  fieldsync quarantine retry --all
  fieldsync quarantine export review.ndjson";

pub(super) const REFERENCE: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage
  3  no daemon at the socket
  4  no such record
  5  not permitted
  6  records need review
  7  the queue or the disk is full
  8  the input was refused, and nothing was stored

With --json or -o json, standard output has one JSON document on each
line: the response of the local API, or an event. Standard error has JSON lines:
  {\"error\": {\"code\", \"message\"}}   if the exit code is not 0; with \"file\" and
                                   \"line\" for a record that was refused
  {\"note\": text}                   for all other messages
Codes are the daemon's, or: usage, no_daemon, no_such_record, not_permitted,
needs_review, queue_full, input_refused, not_quarantined, changed_meanwhile,
editor_failed, connection_lost, not_the_local_api, output_failed, interrupted,
failed.

Environment:
  FIELDSYNC_SOCKET  socket of the daemon, unless --socket names one
  NO_COLOR          no colours, if it is not empty and --color names nothing else
  FIELDSYNC_PAGER, PAGER
                    the pager for long output on a terminal [default: less -FRX];
                    none if it is empty
  VISUAL, EDITOR    the editor of `quarantine edit`
  TMPDIR            directory for the input of a pipe; else /var/tmp";
