//! The bytes of a sparse file on the simulated disk, and the effect of a power cut on them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const BLOCK_BYTES: usize = 4096;
const BLOCK_BYTES_U64: u64 = BLOCK_BYTES as u64;
const SECTOR_BYTES: usize = 512;

/// A requested change of a file.
#[derive(Clone, Debug)]
pub(super) enum FileChange {
    Write(u64, Arc<[u8]>),
    Length(u64),
}

impl FileChange {
    pub(super) fn written_bytes(&self) -> u64 {
        match self {
            Self::Write(_, data) => data.len() as u64,
            Self::Length(_) => 0,
        }
    }
}

/// What a power cut takes of the unsynced changes.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::tests) enum CutLoss {
    Nothing,
    Everything,
    /// Everything from some moment on.
    Tail,
    /// Any of the writes.
    Some,
    /// Any of the sectors.
    Torn,
}

impl CutLoss {
    pub(in crate::store::tests) const ALL: [Self; 5] =
        [Self::Nothing, Self::Everything, Self::Tail, Self::Some, Self::Torn];

    pub(super) fn pick_random(rng: &mut fastrand::Rng) -> Self {
        // Losses with more randomness are more interesting.
        match rng.u8(0..10) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2..4 => Self::Tail,
            4..7 => Self::Some,
            _ => Self::Torn,
        }
    }

    /// Applies what is left to the image.
    pub(super) fn apply_loss(self, image: &mut FileImage, unsynced: &[FileChange], rng: &mut fastrand::Rng) {
        let kept = match self {
            Self::Everything => 0,
            Self::Nothing => unsynced.len(),
            Self::Tail => rng.usize(0..=unsynced.len()),
            Self::Some | Self::Torn => return self.apply_random_parts(image, unsynced, rng),
        };
        unsynced[..kept].iter().for_each(|change| image.apply(change));
    }

    /// Applies writes in any part and order, and one of the lengths that the file had.
    fn apply_random_parts(self, image: &mut FileImage, unsynced: &[FileChange], rng: &mut fastrand::Rng) {
        let mut lengths = vec![image.len];
        let share = rng.f64();
        for change in unsynced {
            match change {
                FileChange::Length(len) => lengths.push(*len),
                FileChange::Write(offset, data) => {
                    let size = if matches!(self, Self::Torn) { SECTOR_BYTES } else { data.len().max(1) };
                    for (index, part) in data.chunks(size).enumerate() {
                        if rng.f64() < share {
                            image.write(offset + (index * size) as u64, part);
                        }
                    }
                }
            }
        }
        image.set_len(lengths[rng.usize(..lengths.len())]);
    }
}

/// The content of a file. Holes read as zeros and take no space.
#[derive(Clone, Debug, Default)]
pub(super) struct FileImage {
    len: u64,
    blocks: BTreeMap<u64, Arc<[u8; BLOCK_BYTES]>>,
}

impl FileImage {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn allocated_bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES_U64
    }

    /// Space that a change takes in addition.
    pub(super) fn growth_bytes(&self, change: &FileChange) -> u64 {
        match change {
            FileChange::Length(_) => 0,
            FileChange::Write(offset, data) => {
                let blocks = offset / BLOCK_BYTES_U64..(offset + data.len() as u64).div_ceil(BLOCK_BYTES_U64);
                blocks.filter(|block| !self.blocks.contains_key(block)).count() as u64 * BLOCK_BYTES_U64
            }
        }
    }

    pub(super) fn apply(&mut self, change: &FileChange) {
        match change {
            FileChange::Write(offset, data) => {
                self.write(*offset, data);
                self.len = self.len.max(offset + data.len() as u64);
            }
            FileChange::Length(len) => self.set_len(*len),
        }
    }

    /// Does not change the length.
    fn write(&mut self, mut offset: u64, mut data: &[u8]) {
        while !data.is_empty() {
            let start = (offset % BLOCK_BYTES_U64) as usize;
            let (part, rest) = data.split_at(data.len().min(BLOCK_BYTES - start));
            let block =
                self.blocks.entry(offset / BLOCK_BYTES_U64).or_insert_with(|| Arc::new([0; BLOCK_BYTES]));
            Arc::make_mut(block)[start..start + part.len()].copy_from_slice(part);
            (offset, data) = (offset + part.len() as u64, rest);
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        drop(self.blocks.split_off(&len.div_ceil(BLOCK_BYTES_U64)));
        if let Some(last) = self.blocks.get_mut(&(len / BLOCK_BYTES_U64)) {
            Arc::make_mut(last)[(len % BLOCK_BYTES_U64) as usize..].fill(0);
        }
    }

    pub(super) fn read(&self, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        if offset + out.len() as u64 > self.len {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        while !out.is_empty() {
            let start = (offset % BLOCK_BYTES_U64) as usize;
            let size = out.len().min(BLOCK_BYTES - start);
            let (part, rest) = out.split_at_mut(size);
            match self.blocks.get(&(offset / BLOCK_BYTES_U64)) {
                Some(block) => part.copy_from_slice(&block[start..start + size]),
                None => part.fill(0),
            }
            (offset, out) = (offset + size as u64, rest);
        }
        Ok(())
    }
}
