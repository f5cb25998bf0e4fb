//! The thread that decodes and mixes all received streams, 10 ms at a time, as fast as the speaker takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rtrb::Producer;

use super::BLOCK;
use super::jitter::{JitterBuffer, JitterStats};
use super::limiter::Limiter;
use super::meter::Loudness;
use super::recorder::Recorder;
use super::resample::FromBlocks;
use crate::api::FrameTransform;

/// A block's length.
const BLOCK_TIME: Duration = Duration::from_millis(10);
/// A clock this far behind (the machine slept) is set anew.
const MAX_BEHIND: Duration = Duration::from_millis(200);
/// A speaker that takes nothing for so long is starting up, or gone: meanwhile the clock sets the pace.
const STALLED: Duration = Duration::from_millis(100);
/// Calls after which a speaker takes sound evenly.
const STARTING_CALLS: u32 = 20;
/// How long a large call is prepared for again.
const RECOUNT: Duration = Duration::from_secs(1);
/// Without an underrun for so long, 5 ms less are held in reserve.
const RELAX: Duration = Duration::from_secs(10);
/// How long the mixing thread sleeps unless the speaker wakes it.
const NAP: Duration = Duration::from_millis(5);

/// Sees every decoded block of a stream with the time it was mixed; called on the mixing thread, must return at once.
pub type BlockTap = Box<dyn FnMut(&[f32; BLOCK], Instant) + Send>;

/// One received stream, shared between who pushes packets and the mixing thread.
pub(super) struct Stream {
    pub(super) id: String,
    pub(super) jitter: Mutex<JitterBuffer>,
    pub(super) transform: Mutex<Box<dyn FrameTransform>>,
    /// Bits of an f32.
    pub(super) volume: AtomicU32,
    pub(super) loudness: AtomicU8,
    pub(super) recorder: Mutex<Option<Recorder>>,
    pub(super) tap: Mutex<Option<BlockTap>>,
    pub(super) ended: AtomicBool,
}

impl Stream {
    pub(super) fn stats(&self) -> JitterStats {
        self.jitter.lock().stats()
    }

    fn add_to(&self, mix: &mut [f32; BLOCK], now: Instant) {
        let mut block = [0.0; BLOCK];
        self.jitter.lock().pull(&mut block, now);
        self.loudness.store(Loudness::of(&block).dbov(), Ordering::Relaxed);
        if let Some(recorder) = self.recorder.lock().as_mut() {
            recorder.write(&block);
        }
        if let Some(tap) = self.tap.lock().as_mut() {
            tap(&block, now);
        }
        let volume = f32::from_bits(self.volume.load(Ordering::Relaxed));
        mix.iter_mut()
            .zip(&block)
            .for_each(|(sum, sample)| *sum += sample * volume);
    }
}

/// What the callback and the mixing thread know of each other.
#[derive(Debug)]
pub(super) struct Demand {
    /// The most samples the callback took at once since this was last set to zero.
    pub(super) largest: AtomicU32,
    /// How often there were too few.
    pub(super) underruns: AtomicU32,
    /// Calls so far.
    pub(super) calls: Arc<AtomicU32>,
}

/// Where mixed sound goes.
#[cfg_attr(not(feature = "sound"), allow(dead_code))]
pub(super) enum Output {
    /// Nowhere, in real time.
    Null,
    /// To a speaker's callback.
    Ring {
        ring: Producer<f32>,
        rate: u32,
        demand: Arc<Demand>,
    },
}

/// The state of the mixing thread.
pub(super) struct Mixer {
    streams: Arc<Mutex<Vec<Arc<Stream>>>>,
    limiter: Limiter,
    output: Running,
}

enum Running {
    Null { next: Instant },
    Ring(Box<RingOutput>),
}

struct RingOutput {
    ring: Producer<f32>,
    resampler: FromBlocks,
    block: usize,
    demand: Arc<Demand>,
    /// The most samples the callback takes at once, and since when that is counted anew.
    largest: usize,
    counted: Instant,
    underruns: u32,
    /// Samples held beyond what the callback takes at once.
    reserve: usize,
    /// When the reserve was last grown or shrunk.
    reserved: Instant,
    calls: u32,
    /// When the clock sets the pace, unless the speaker takes something before.
    unpaced: Instant,
}

impl Mixer {
    pub(super) fn new(streams: Arc<Mutex<Vec<Arc<Stream>>>>) -> Self {
        Self {
            streams,
            limiter: Limiter::default(),
            output: Running::Null { next: Instant::now() },
        }
    }

    /// Runs until the other end of `outputs` is gone.
    pub(super) fn run(mut self, outputs: &Receiver<Output>) {
        loop {
            match outputs.try_recv() {
                Ok(output) => self.switch(output),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return,
            }
            let nap = self.step(Instant::now());
            if !nap.is_zero() {
                std::thread::park_timeout(nap);
            }
        }
    }

    fn switch(&mut self, output: Output) {
        let now = Instant::now();
        self.output = match output {
            Output::Null => Running::Null { next: now },
            Output::Ring { ring, rate, demand } => Running::Ring(Box::new(RingOutput {
                ring,
                resampler: FromBlocks::new(rate),
                block: (rate as usize).div_ceil(100),
                largest: 0,
                counted: now,
                underruns: 0,
                reserve: 0,
                reserved: now,
                calls: demand.calls.load(Ordering::Relaxed),
                unpaced: now + STALLED,
                demand,
            })),
        };
    }

    /// Does what is due, and says how long nothing will be.
    fn step(&mut self, now: Instant) -> Duration {
        let mut output = std::mem::replace(&mut self.output, Running::Null { next: now });
        let nap = match &mut output {
            Running::Null { next } => {
                if now.saturating_duration_since(*next) > MAX_BEHIND {
                    *next = now;
                }
                while *next <= now {
                    self.mix(now);
                    *next += BLOCK_TIME;
                }
                next.saturating_duration_since(now)
            }
            Running::Ring(ring) => {
                ring.fill(now, || self.mix(now));
                NAP
            }
        };
        self.output = output;
        nap
    }

    fn mix(&mut self, now: Instant) -> [f32; BLOCK] {
        let mut mix = [0.0; BLOCK];
        self.streams
            .lock()
            .retain(|stream| !stream.ended.load(Ordering::Acquire));
        // A short copy of the list: who adds a stream never waits for decoding.
        let streams = self.streams.lock().clone();
        for stream in streams {
            let mut with = mix;
            let added = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stream.add_to(&mut with, now)));
            match added {
                Ok(()) => mix = with,
                Err(_) => {
                    tracing::error!(stream = stream.id, "a received stream failed and was ended");
                    stream.ended.store(true, Ordering::Release);
                }
            }
        }
        self.limiter.process(&mut mix);
        mix
    }
}

impl RingOutput {
    /// Samples that should wait in the ring.
    fn wanted(&mut self, now: Instant) -> usize {
        let largest = self.demand.largest.load(Ordering::Relaxed) as usize;
        if now.saturating_duration_since(self.counted) > RECOUNT {
            // The first calls after a start take more than the later ones.
            self.largest = largest;
            self.demand.largest.store(0, Ordering::Relaxed);
            self.counted = now;
        }
        let underruns = self.demand.underruns.load(Ordering::Relaxed);
        let starting = self.calls < STARTING_CALLS;
        if underruns != self.underruns {
            self.underruns = underruns;
            if !starting {
                self.reserve = (self.reserve + self.block / 2).min(self.block * 6);
            }
            self.reserved = now;
        } else if now.saturating_duration_since(self.reserved) > RELAX {
            self.reserve = self.reserve.saturating_sub(self.block / 2);
            self.reserved = now;
        }
        let least = if starting { 2 * self.block } else { self.block };
        self.largest.max(largest).max(least) + self.reserve
    }

    /// Keeps as much in the ring as the callback takes at once, and a reserve that grows when it was too little.
    fn fill(&mut self, now: Instant, mut mix: impl FnMut() -> [f32; BLOCK]) {
        let calls = self.demand.calls.load(Ordering::Acquire);
        if calls != self.calls {
            self.calls = calls;
            self.unpaced = now + STALLED;
        }
        let wanted = self.wanted(now);
        if now.saturating_duration_since(self.unpaced) > MAX_BEHIND {
            self.unpaced = now;
        }
        while self.unpaced <= now {
            mix();
            self.unpaced += BLOCK_TIME;
        }
        let capacity = self.ring.buffer().capacity();
        while capacity - self.ring.slots() < wanted {
            let block = mix();
            let samples = self.resampler.process(&block);
            if samples.is_empty() || self.ring.push_entire_slice(samples).is_err() {
                return;
            }
        }
    }
}
