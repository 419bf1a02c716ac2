//! The ways to compress a body.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use fieldsync::transport::encoding::ContentEncoding;
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::time::{ClockId, clock_gettime};

const GZIP_LEVELS: [u32; 4] = [1, 3, 6, 9];
const ZSTD_LEVELS: [i32; 10] = [-5, -1, 1, 3, 5, 7, 9, 12, 15, 19];
/// The level for comparing ways to call the library.
const COMMON_LEVEL: i32 = 7;

type Encode = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// A way to compress.
pub(crate) struct Contestant {
    name: String,
    family: Option<&'static str>,
    encode: Encode,
    bytes: usize,
    /// The time for one body, in each round.
    times: Vec<Duration>,
}

/// Its result for one body.
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Its rivals are the other levels of the same family; none for the others.
    pub(crate) family: Option<&'static str>,
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// Returns all contestants.
pub(crate) fn all() -> Vec<Contestant> {
    let mut all = vec![Contestant::new("plain", None, <[u8]>::to_vec)];
    for level in GZIP_LEVELS {
        all.push(Contestant::new(&format!("gzip {level}"), Some("gzip"), move |body| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(body).expect("writing to memory succeeds");
            encoder.finish().expect("writing to memory succeeds")
        }));
    }
    for level in ZSTD_LEVELS {
        all.push(Contestant::new(&format!("zstd {level}"), Some("zstd"), move |body| {
            zstd::bulk::compress(body, level).expect("writing to memory succeeds")
        }));
    }
    all.push(Contestant::new(&format!("zstd {COMMON_LEVEL}, as a stream"), None, |body| {
        zstd::encode_all(body, COMMON_LEVEL).expect("writing to memory succeeds")
    }));
    let mut kept = zstd::bulk::Compressor::new(COMMON_LEVEL).expect("a level");
    all.push(Contestant::new(&format!("zstd {COMMON_LEVEL}, context kept"), None, move |body| {
        kept.compress(body).expect("writing to memory succeeds")
    }));
    for encoding in [ContentEncoding::Gzip, ContentEncoding::Zstd] {
        all.push(Contestant::new(&format!("{}, as shipped", encoding.name()), None, move |body| {
            encoding.encode(body).expect("writing to memory succeeds")
        }));
    }
    all
}

impl Contestant {
    fn new(name: &str, family: Option<&'static str>, encode: impl FnMut(&[u8]) -> Vec<u8> + 'static) -> Self {
        Self { name: name.into(), family, encode: Box::new(encode), bytes: 0, times: Vec::new() }
    }

    /// Compresses all bodies once.
    pub(crate) fn run(&mut self, bodies: &[Vec<u8>]) {
        let start = processor_time();
        let bytes: usize = bodies.iter().map(|body| black_box((self.encode)(body)).len()).sum();
        let took = processor_time().saturating_sub(start);
        let count = u32::try_from(bodies.len()).expect("fewer bodies");
        self.bytes = bytes / bodies.len();
        self.times.push(took / count);
    }

    /// The result, with the median time of its rounds.
    pub(crate) fn measured(&self) -> Measured {
        let mut times = self.times.clone();
        times.sort();
        let time = times.get(times.len() / 2).copied().unwrap_or_default();
        Measured { name: self.name.clone(), family: self.family, bytes: self.bytes, time }
    }
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock").into()
}
