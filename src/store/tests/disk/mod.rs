//! A disk in memory. It distinguishes what a program sees from what a power cut leaves, so that tests can produce every
//! power cut, error and lack of space of a real disk.
//!
//! Unsynced changes reach the medium in any part and order, down to single sectors. After a failed sync, pages may be
//! lost although reads still show them, as on Linux.

mod image;
mod medium;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use image::{FileChange, FileImage};

pub(super) use image::CutLoss;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// An operation on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskOperation {
    Read,
    Write,
    Length,
    Sync,
    /// A rename, or the sync that makes it durable.
    Name,
}

/// All operations that change something.
pub(super) const CHANGES: &[DiskOperation] =
    &[DiskOperation::Write, DiskOperation::Length, DiskOperation::Sync, DiskOperation::Name];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DiskFault {
    /// The power is cut.
    Cut,
    /// `EIO`, once or from then on.
    Broken { lasting: bool },
    /// `ENOSPC`, once or from then on, whatever the capacity.
    NoRoom { lasting: bool },
}

impl DiskFault {
    fn error(self) -> io::Error {
        io::Error::from_raw_os_error(if matches!(self, Self::NoRoom { .. }) { ENOSPC } else { EIO })
    }

    pub(super) fn is_lasting(self) -> bool {
        matches!(self, Self::Broken { lasting: true } | Self::NoRoom { lasting: true })
    }
}

/// Strikes at one of the operations of a kind.
#[derive(Clone, Debug)]
struct FaultPlan {
    kinds: &'static [DiskOperation],
    /// How many of them succeed before.
    after: u64,
    fault: DiskFault,
}

#[derive(Clone, Debug, Default)]
struct SimulatedFile {
    visible: FileImage,
    durable: FileImage,
    unsynced: Vec<FileChange>,
}

/// Operations so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OperationCounts {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) lengths: u64,
    pub(super) syncs: u64,
    pub(super) names: u64,
    pub(super) bytes_written: u64,
    pub(super) cuts: u64,
}

#[derive(Clone, Debug)]
struct SimulatedState {
    files: BTreeMap<u64, SimulatedFile>,
    /// The file under the database's name, before and after a power cut.
    name: Option<u64>,
    durable_name: Option<u64>,
    next_file: u64,
    reserve: u64,
    capacity: u64,
    /// Counts restarts: older handles are dead.
    process: u64,
    down: bool,
    open: BTreeSet<u64>,
    /// The database that the process opened.
    opened: Option<u64>,
    /// How often there may have been too little space.
    shortages: u32,
    plan: Option<FaultPlan>,
    /// Power cuts repeat, after at most this many operations.
    cuts_within: Option<u64>,
    struck: bool,
    /// Faults are suspended and strike later.
    suspended: bool,
    counts: OperationCounts,
    rng: fastrand::Rng,
    /// The disk as a power cut at each operation would leave it.
    crash_points: Option<Vec<(DiskOperation, SimulatedDisk)>>,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub(super) struct SimulatedDisk(Arc<Mutex<SimulatedState>>);

impl SimulatedDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SimulatedState {
            files: BTreeMap::new(),
            name: None,
            durable_name: None,
            next_file: 0,
            reserve: 0,
            capacity: 1 << 40,
            process: 0,
            down: false,
            open: BTreeSet::new(),
            opened: None,
            shortages: 0,
            plan: None,
            cuts_within: None,
            struck: false,
            suspended: false,
            counts: OperationCounts::default(),
            rng: fastrand::Rng::with_seed(seed),
            crash_points: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, SimulatedState> {
        self.0.lock().unwrap()
    }

    /// Another disk with the same content, and its own random numbers.
    pub(super) fn fork(&self, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self(Arc::new(Mutex::new(SimulatedState { rng, ..self.state().clone() })))
    }

    /// Plans a fault after this many more operations of these kinds.
    pub(super) fn plan_fault(&self, kinds: &'static [DiskOperation], after: u64, fault: DiskFault) {
        let mut state = self.state();
        state.struck = false;
        state.plan = Some(FaultPlan { kinds, after, fault });
    }

    /// From now on, the power is cut repeatedly, after at most this many operations.
    pub(super) fn cut_again_and_again(&self, within: u64) {
        let mut state = self.state();
        state.cuts_within = Some(within);
        state.plan_cut();
    }

    /// Ends all faults. Returns whether one has struck since it was planned.
    pub(super) fn clear_faults(&self) -> bool {
        let mut state = self.state();
        state.plan = None;
        state.cuts_within = None;
        std::mem::take(&mut state.struck)
    }

    /// Suspends faults while a test inspects the disk.
    pub(super) fn set_suspended(&self, suspended: bool) {
        self.state().suspended = suspended;
    }

    pub(super) fn has_struck(&self) -> bool {
        self.state().struck
    }

    pub(super) fn is_down(&self) -> bool {
        self.state().down
    }

    /// Cuts the power and restores it. Some part of the unsynced changes is left.
    pub(super) fn power_cycle(&self, loss: Option<CutLoss>) {
        let mut state = self.state();
        let loss = loss.unwrap_or_else(|| CutLoss::pick_random(&mut state.rng));
        state.power_cycle(loss);
    }

    /// The process ends, but the system continues.
    pub(super) fn end_process(&self) {
        let mut state = self.state();
        state.process += 1;
        state.open.clear();
        state.opened = None;
    }

    pub(super) fn record_crash_points(&self) {
        self.state().crash_points = Some(Vec::new());
    }

    pub(super) fn take_crash_points(&self) -> Vec<(DiskOperation, Self)> {
        self.state().crash_points.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn operation_counts(&self) -> OperationCounts {
        self.state().counts
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = bytes;
        state.shortages += 1;
    }

    /// Whether there may have been too little space.
    pub(super) fn was_short(&self) -> bool {
        self.state().shortages > 0
    }

    /// Used bytes, including the reserve.
    pub(super) fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    fn sync_name(&self) -> io::Result<()> {
        let mut state = self.state();
        let process = state.process;
        state.begin_operation(process, DiskOperation::Name, None)?;
        state.durable_name = state.name;
        state.remove_unnamed_files();
        Ok(())
    }

    fn rename(&self, file: u64) -> io::Result<()> {
        let mut state = self.state();
        let process = state.process;
        state.begin_operation(process, DiskOperation::Name, None)?;
        state.name = Some(file);
        Ok(())
    }
}

impl SimulatedState {
    fn used_bytes(&self) -> u64 {
        self.reserve + self.files.values().map(|file| file.visible.allocated_bytes()).sum::<u64>()
    }

    fn plan_cut(&mut self) {
        let Some(within) = self.cuts_within else { return };
        // A quarter of the cuts should strike while the store is being opened.
        let after = if self.rng.u8(0..4) == 0 { self.rng.u64(0..12) } else { self.rng.u64(0..within) };
        self.plan = Some(FaultPlan { kinds: CHANGES, after, fault: DiskFault::Cut });
    }

    fn power_cycle(&mut self, loss: CutLoss) {
        self.counts.cuts += 1;
        self.process += 1;
        self.open.clear();
        self.opened = None;
        (self.down, self.plan, self.struck) = (false, None, false);
        self.durable_name = match loss {
            CutLoss::Everything => self.durable_name,
            CutLoss::Nothing => self.name,
            _ if self.rng.bool() => self.name,
            _ => self.durable_name,
        };
        self.name = self.durable_name;
        self.remove_unnamed_files();
        for file in self.files.values_mut() {
            loss.apply_loss(&mut file.durable, &std::mem::take(&mut file.unsynced), &mut self.rng);
            file.visible = file.durable.clone();
        }
        self.plan_cut();
    }

    fn remove_unnamed_files(&mut self) {
        let (name, durable) = (self.name, self.durable_name);
        self.files.retain(|file, _| [name, durable].contains(&Some(*file)));
    }

    /// Called before every operation. Fails if a fault strikes, and a power cut may leave part of the change.
    fn begin_operation(
        &mut self,
        process: u64,
        kind: DiskOperation,
        change: Option<(u64, FileChange)>,
    ) -> io::Result<()> {
        if self.down || process != self.process {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        match kind {
            DiskOperation::Read => self.counts.reads += 1,
            DiskOperation::Write => self.counts.writes += 1,
            DiskOperation::Length => self.counts.lengths += 1,
            DiskOperation::Sync => self.counts.syncs += 1,
            DiskOperation::Name => self.counts.names += 1,
        }
        if let Some(mut points) = self.crash_points.take() {
            if CHANGES.contains(&kind) {
                let mut point = self.clone();
                point.go_down(change.clone());
                points.push((kind, SimulatedDisk(Arc::new(Mutex::new(point)))));
            }
            self.crash_points = Some(points);
        }
        let suspended = self.suspended;
        let Some(plan) = self.plan.as_mut().filter(|plan| !suspended && plan.kinds.contains(&kind)) else {
            return Ok(());
        };
        if plan.after > 0 {
            plan.after -= 1;
            return Ok(());
        }
        let fault = plan.fault;
        self.struck = true;
        self.shortages += u32::from(matches!(fault, DiskFault::NoRoom { .. }));
        match fault {
            DiskFault::Cut => self.go_down(change),
            _ if !fault.is_lasting() => self.plan = None,
            _ => {}
        }
        Err(fault.error())
    }

    fn go_down(&mut self, change: Option<(u64, FileChange)>) {
        self.down = true;
        if let Some((file, change)) = change
            && let Some(file) = self.files.get_mut(&file)
        {
            file.unsynced.push(change);
        }
    }

    fn file(&mut self, file: u64) -> io::Result<&mut SimulatedFile> {
        self.files.get_mut(&file).ok_or_else(|| io::Error::from_raw_os_error(EIO))
    }

    fn write(&mut self, process: u64, file: u64, change: FileChange) -> io::Result<()> {
        let kind = if matches!(change, FileChange::Length(_)) {
            DiskOperation::Length
        } else {
            DiskOperation::Write
        };
        let used = self.used_bytes();
        let room = self.capacity.saturating_sub(used);
        self.begin_operation(process, kind, Some((file, change.clone())))?;
        let file = self.file(file)?;
        if file.visible.growth_bytes(&change) > room {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        file.visible.apply(&change);
        let bytes = change.written_bytes();
        file.unsynced.push(change);
        self.counts.bytes_written += bytes;
        Ok(())
    }

    fn sync(&mut self, process: u64, file: u64) -> io::Result<()> {
        let begun = self.begin_operation(process, DiskOperation::Sync, None);
        if self.down || process != self.process {
            return begun;
        }
        // All of it, nothing, or anything between: a failed sync may have completed in part.
        let kept = if begun.is_ok() { 1.0 } else { [0.0, 1.0, self.rng.f64()][self.rng.usize(0..3)] };
        let mut rng = self.rng.fork();
        for change in std::mem::take(&mut self.file(file)?.unsynced) {
            // A failed sync loses data, but not lengths.
            if matches!(change, FileChange::Length(_)) || rng.f64() < kept {
                self.file(file)?.durable.apply(&change);
            }
        }
        begun
    }
}
