//! A plain log: appends the same bytes and calls `fdatasync`. No store on this disk can be faster.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use fieldsync::clock::wall_ms;

use crate::group::GroupSink;
use crate::record::Record;

pub(crate) struct RawLog {
    file: File,
    buffer: Vec<u8>,
}

impl RawLog {
    pub(crate) fn open(dir: &Path) -> Self {
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(dir.join("records.log"))
            .expect("the log can be made");
        Self { file, buffer: Vec::new() }
    }
}

impl GroupSink for RawLog {
    fn commit_group(&mut self, group: &[Record]) {
        self.buffer.clear();
        let now = wall_ms();
        for record in group {
            record.seal_into(now, &mut self.buffer);
        }
        self.file.write_all(&self.buffer).expect("the log takes it");
        self.file.sync_data().expect("the log syncs");
    }
}
