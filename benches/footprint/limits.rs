//! The figures, their aims, and the limits that a change must not exceed. The only place for these numbers.

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// A figure of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    Program,
    PackageUnpacked,
    PackagePacked,
    MemoryIdle,
    MemoryIdleOwn,
    MemoryAfterFill,
    MemoryLarge,
    Threads,
    WakeUpsWithoutLink,
    WakeUpsWithLink,
    StartEmpty,
    StartLarge,
    DescriptorsStderr,
    DescriptorsJournal,
}

/// How a figure is shown, and whether it can regress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Kibibytes,
    Count,
    Milliseconds,
}

/// What is known about a figure.
pub(crate) struct Row {
    pub(crate) figure: Figure,
    pub(crate) name: &'static str,
    pub(crate) unit: Unit,
    pub(crate) aim: Option<u64>,
    /// The largest value that passes. Only sizes and counts have one: times and memory depend on the machine.
    pub(crate) limit: Option<u64>,
}

/// All figures, in the order of the table.
pub(crate) const ROWS: [Row; 14] = [
    // The aim is that for the daemon alone.
    row(
        Figure::Program,
        "the program: daemon and command line",
        Unit::Bytes,
        Some(8 * MIB),
        Some(13 * MIB + MIB / 2),
    ),
    row(
        Figure::PackageUnpacked,
        "device package, unpacked",
        Unit::Bytes,
        Some(12 * MIB),
        Some(14 * MIB + MIB / 2),
    ),
    row(Figure::PackagePacked, "device package, packed", Unit::Bytes, Some(5 * MIB), Some(5 * MIB)),
    row(Figure::MemoryIdle, "resident, idle", Unit::Kibibytes, Some(12 * KIB), None),
    row(Figure::MemoryIdleOwn, "resident, idle, without pages of files", Unit::Kibibytes, None, None),
    row(Figure::MemoryAfterFill, "resident, just enqueued", Unit::Kibibytes, None, None),
    row(Figure::MemoryLarge, "resident, large queue", Unit::Kibibytes, Some(20 * KIB), None),
    row(Figure::Threads, "threads", Unit::Count, Some(5), Some(4)),
    row(Figure::WakeUpsWithoutLink, "wake-ups a minute without a link", Unit::Count, Some(0), Some(0)),
    row(Figure::WakeUpsWithLink, "wake-ups a minute with a link", Unit::Count, None, None),
    row(Figure::StartEmpty, "start to ready, empty queue", Unit::Milliseconds, Some(50), None),
    row(Figure::StartLarge, "start to ready, large queue", Unit::Milliseconds, Some(300), None),
    row(Figure::DescriptorsStderr, "descriptors, log on standard error", Unit::Count, Some(23), Some(20)),
    row(Figure::DescriptorsJournal, "descriptors, log in the journal", Unit::Count, Some(23), Some(20)),
];

const fn row(figure: Figure, name: &'static str, unit: Unit, aim: Option<u64>, limit: Option<u64>) -> Row {
    Row { figure, name, unit, aim, limit }
}
