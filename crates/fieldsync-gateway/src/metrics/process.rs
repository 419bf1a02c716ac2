//! The metrics that every Prometheus client has of its process, by the names of its convention. They are read from the
//! kernel when they are asked for; what it does not report is left out.

use std::fmt;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::clock::wall_ms;

const STATUS_FILE: &str = "/proc/self/status";
const DESCRIPTORS_DIR: &str = "/proc/self/fd";
const KIB: i64 = 1 << 10;

/// Reads the facts of this process.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    started_at_ms: u64,
}

impl ProcessCollector {
    /// Created when the process starts.
    pub(super) fn new() -> Self {
        Self { started_at_ms: wall_ms() }
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut write = |name: &str, help: &str, unit: Option<&Unit>, metric: &dyn EncodableMetric| {
            metric.write(&mut encoder, name, help, unit)
        };
        let started_at = Duration::from_millis(self.started_at_ms).as_secs_f64();
        let seconds = Some(&Unit::Seconds);
        let bytes = Some(&Unit::Bytes);
        write(
            "process_start_time",
            "When the process started, since 1970",
            seconds,
            &ConstGauge::new(started_at),
        )?;
        if let Some(cpu) = read_cpu_seconds() {
            write(
                "process_cpu",
                "Processor time of the process, in user and system mode",
                seconds,
                &ConstCounter::new(cpu),
            )?;
        }
        let status = fs::read_to_string(STATUS_FILE).unwrap_or_default();
        for (name, help, field) in [
            ("process_resident_memory", "Memory of the process that is in RAM", "VmRSS:"),
            ("process_virtual_memory", "Address space of the process", "VmSize:"),
        ] {
            if let Some(size) = read_kib(&status, field) {
                write(name, help, bytes, &ConstGauge::new(size * KIB))?;
            }
        }
        if let Some(open) = count_descriptors() {
            write("process_open_fds", "Open file descriptors", None, &ConstGauge::new(open))?;
        }
        if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            write("process_max_fds", "The limit of open file descriptors", None, &ConstGauge::new(limit))?;
        }
        Ok(())
    }
}

/// A metric of any type, which `EncodeMetric` alone cannot be passed as.
trait EncodableMetric {
    fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> Result<(), fmt::Error>;
}

impl<M: EncodeMetric> EncodableMetric for M {
    fn write(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
    ) -> Result<(), fmt::Error> {
        self.encode(encoder.encode_descriptor(name, help, unit, self.metric_type())?)
    }
}

fn read_cpu_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let duration = |time: TimeVal| {
        Some(Duration::new(u64::try_from(time.tv_sec()).ok()?, u32::try_from(time.tv_usec()).ok()? * 1000))
    };
    Some((duration(usage.user_time())? + duration(usage.system_time())?).as_secs_f64())
}

/// A line such as `VmRSS:     1234 kB`.
fn read_kib(status: &str, field: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Without the one that reads the directory.
fn count_descriptors() -> Option<i64> {
    let open = fs::read_dir(DESCRIPTORS_DIR).ok()?.count();
    i64::try_from(open.saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_status_of_a_process() {
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t     512 kB\n";
        assert_eq!((read_kib(status, "VmRSS:"), read_kib(status, "VmSize:")), (Some(512), Some(2048)));
        assert_eq!(read_kib(status, "VmPeak:"), None);
        assert!(count_descriptors() > Some(2) && read_cpu_seconds().is_some());
    }
}
