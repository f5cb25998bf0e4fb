//! A real microphone: the callback writes into a ring, the pipeline's thread takes 10 ms blocks out of it.
//!
//! The sound card's clock is not the computer's. Blocks are given out on an exact 10 ms grid of the monotonic clock by
//! resampling a little faster or slower, so that capture times (and RTP times made of them) never wander or jump.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use cpal::traits::DeviceTrait;
use cpal::{Data, FromSample, InputCallbackInfo, SampleFormat, SizedSample};
use rtrb::{Consumer, Producer, RingBuffer};

use super::device::supervise::{Message, OPEN_WITHIN, Opener, Supervisor};
use super::event::DeviceEvents;
use super::resample::ToBlocks;
use super::source::Captured;
use super::thread::spawn;
use super::{BLOCK, Block};
use crate::api::{DeviceError, DeviceInfo, DeviceKind};

/// Callbacks noted at most: a second of the shortest ones in use.
const STAMPS: usize = 512;
/// Sound older than this is left out: the pipeline was stopped for a while.
const MAX_WAITING: Duration = Duration::from_millis(300);
/// A difference between the grid and the device that is not drift but a gap.
const MAX_ERROR: f64 = 0.06;
/// How fast the difference's average follows, per block: about a second.
const ERROR_RATE: f64 = 0.01;
/// Blocks after which the constant part of the difference is known.
const LEARN_BLOCKS: u32 = 200;
/// Seconds in which a difference is worked off.
const STEER_TIME: f64 = 10.0;
/// The most the pitch is changed for it: more than any sound card is off, less than any ear hears.
const MAX_STEER: f64 = 0.001;
/// The longest a reader sleeps without being woken.
const NAP: Duration = Duration::from_millis(5);
/// How long opening may take altogether.
const FIRST_OPEN: Duration = Duration::from_secs(6);

/// An open microphone.
pub(super) struct Microphone {
    opened: Receiver<Stream>,
    current: Option<Stream>,
    reader: Arc<OnceLock<Thread>>,
    /// Capture time of the next block.
    grid: Option<Instant>,
    error: f64,
    /// The difference that stays: drivers know their delay only about.
    bias: f64,
    placed: u32,
    messages: Option<Sender<Message>>,
    stop: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
}

/// One opened device, as the reader sees it.
struct Stream {
    samples: Consumer<f32>,
    stamps: Consumer<Stamp>,
    stamp: Option<Stamp>,
    rate: u32,
    resampler: ToBlocks,
    scratch: Vec<f32>,
    begun: bool,
}

/// When the samples of one callback were captured.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    frames: usize,
    first: Instant,
}

impl Microphone {
    /// Opens the microphone with this id, or the system's.
    pub(super) fn open(id: Option<&str>, events: &DeviceEvents) -> Result<Self, DeviceError> {
        let (messages, received) = mpsc::channel();
        let (streams, opened) = mpsc::channel();
        let (first, result) = mpsc::channel();
        let reader: Arc<OnceLock<Thread>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let opener = Input {
            streams,
            reader: Arc::clone(&reader),
        };
        let (wanted, sender, events, stopped) = (
            Some(id.map(str::to_owned)),
            messages.clone(),
            Arc::clone(events),
            Arc::clone(&stop),
        );
        let supervisor = spawn("confab-mic-watch", DeviceKind::Microphone, move || {
            let quiet = super::event::no_events();
            let mut supervisor = Supervisor::new(opener, wanted, sender, quiet);
            let begun = supervisor.begin();
            let failed = begun.is_err();
            // Who opened it may have given up by now; then the loop ends at once.
            let _ = first.send(begun);
            if !failed {
                supervisor.tell(events);
                supervisor.run(&received, || stopped.load(Ordering::Acquire));
            }
        })?;
        let microphone = Self {
            opened,
            current: None,
            reader,
            grid: None,
            error: 0.0,
            bias: 0.0,
            placed: 0,
            messages: Some(messages),
            stop,
            supervisor: Some(supervisor),
        };
        match result.recv_timeout(FIRST_OPEN) {
            Ok(Ok(())) => Ok(microphone),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(DeviceError::Lost(DeviceKind::Microphone)),
        }
    }

    /// The next block, or nothing within `timeout`.
    pub(super) fn next(&mut self, timeout: Duration) -> Captured {
        self.reader.get_or_init(std::thread::current);
        let end = Instant::now() + timeout;
        loop {
            while let Ok(stream) = self.opened.try_recv() {
                self.current = Some(stream);
            }
            if let Some(stream) = &mut self.current
                && let Some((block, measured)) = stream.next()
            {
                return Captured::Block(Block {
                    samples: block,
                    captured: self.place(measured),
                });
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Captured::Nothing;
            }
            std::thread::park_timeout(left.min(NAP));
        }
    }

    /// Puts a block on the grid, and steers the resampler so that the grid stays true.
    fn place(&mut self, measured: Instant) -> Instant {
        let mut grid = self.grid.unwrap_or(measured);
        let Some(stream) = &mut self.current else { return grid };
        let error = seconds(measured, grid) - self.bias;
        if !std::mem::replace(&mut stream.begun, true) || error > MAX_ERROR {
            // A gap: whole packets forward. Never backward, times only rise.
            grid += Duration::from_millis(20) * (error.max(0.0) / 0.02).ceil() as u32;
            (self.error, self.bias, self.placed) = (0.0, 0.0, 0);
        } else if self.placed < LEARN_BLOCKS {
            self.bias += error / f64::from(self.placed + 1);
        } else {
            self.error += ERROR_RATE * (error - self.error);
        }
        self.placed = self.placed.saturating_add(1);
        // Later than the grid: the device is slow, each of its samples has to last longer.
        stream
            .resampler
            .steer(1.0 + (self.error / STEER_TIME).clamp(-MAX_STEER, MAX_STEER));
        self.grid = Some(grid + Duration::from_millis(10));
        grid
    }
}

impl Drop for Microphone {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(messages) = self.messages.take() {
            // Wakes the supervisor; it has ended already if this fails.
            let _ = messages.send(Message::Want(None));
        }
        if let Some(supervisor) = self.supervisor.take() {
            // A server that hangs while the device opens must not hold up who hangs up.
            if self.current.is_some() || supervisor.is_finished() {
                let _ = supervisor.join();
            }
        }
    }
}

/// `a - b`, seconds.
fn seconds(a: Instant, b: Instant) -> f64 {
    if a >= b {
        (a - b).as_secs_f64()
    } else {
        -(b - a).as_secs_f64()
    }
}

impl Stream {
    fn next(&mut self) -> Option<([f32; BLOCK], Instant)> {
        let waiting = self.samples.slots();
        let most = (self.rate as u128 * MAX_WAITING.as_millis() / 1000) as usize;
        if waiting > most {
            self.skip(waiting - most / 6);
        }
        let needed = self.resampler.needed();
        if self.samples.slots() < needed || needed > self.scratch.len() {
            return None;
        }
        let measured = self.time()?;
        self.samples.pop_entire_slice(&mut self.scratch[..needed]).ok()?;
        self.advance(needed);
        let mut block = [0.0; BLOCK];
        self.resampler
            .process(&self.scratch[..needed], &mut block)
            .then_some((block, measured))
    }

    fn skip(&mut self, count: usize) {
        if let Ok(chunk) = self.samples.read_chunk(count) {
            chunk.commit_all();
            self.advance(count);
        }
    }

    /// When the next sample was captured.
    fn time(&mut self) -> Option<Instant> {
        if self.stamp.is_none() {
            self.stamp = self.stamps.pop().ok();
        }
        self.stamp.map(|stamp| stamp.first)
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(mut stamp) = self.stamp.take().or_else(|| self.stamps.pop().ok()) else {
                return;
            };
            if count < stamp.frames {
                stamp.frames -= count;
                stamp.first += Duration::from_secs_f64(count as f64 / f64::from(self.rate));
                self.stamp = Some(stamp);
                return;
            }
            count -= stamp.frames;
        }
    }
}

/// Opens input streams.
struct Input {
    streams: Sender<Stream>,
    reader: Arc<OnceLock<Thread>>,
}

impl Opener for Input {
    const KIND: DeviceKind = DeviceKind::Microphone;

    fn open(
        &mut self,
        device: &cpal::Device,
        config: cpal::StreamConfig,
        format: SampleFormat,
        calls: Arc<AtomicU32>,
        failed: Box<dyn FnMut(cpal::Error) + Send>,
    ) -> Result<cpal::Stream, cpal::Error> {
        let rate = config.sample_rate;
        let unsupported = || cpal::Error::new(cpal::ErrorKind::UnsupportedConfig);
        let resampler = ToBlocks::new(rate).ok_or_else(unsupported)?;
        let (sample_ring, samples) = RingBuffer::new(rate as usize);
        let (stamp_ring, stamps) = RingBuffer::new(STAMPS);
        let writer = Writer {
            samples: sample_ring,
            stamps: stamp_ring,
            channels: usize::from(config.channels.max(1)),
            reader: Arc::clone(&self.reader),
            calls,
        };
        let stream = match format {
            SampleFormat::F32 => build::<f32>(device, config, writer, failed),
            SampleFormat::I16 => build::<i16>(device, config, writer, failed),
            SampleFormat::I32 => build::<i32>(device, config, writer, failed),
            SampleFormat::U16 => build::<u16>(device, config, writer, failed),
            SampleFormat::U8 => build::<u8>(device, config, writer, failed),
            _ => Err(unsupported()),
        }?;
        let scratch = vec![0.0; resampler.most_needed()];
        let opened = Stream {
            samples,
            stamps,
            stamp: None,
            rate,
            resampler,
            scratch,
            begun: false,
        };
        // The reader is gone only when the microphone is being closed.
        let _ = self.streams.send(opened);
        Ok(stream)
    }

    fn closed(&mut self) {}

    fn report(&mut self, _: Result<DeviceInfo, DeviceError>) {}
}

/// The callback's half: no lock, no allocation, no log.
struct Writer {
    samples: Producer<f32>,
    stamps: Producer<Stamp>,
    channels: usize,
    reader: Arc<OnceLock<Thread>>,
    calls: Arc<AtomicU32>,
}

impl Writer {
    fn write<T>(&mut self, data: &[T], info: &InputCallbackInfo)
    where
        T: SizedSample,
        f32: FromSample<T>,
    {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let frames = data.len() / self.channels;
        let stamps = info.timestamp();
        let age = stamps.callback.duration_since(stamps.capture).min(MAX_WAITING);
        let now = Instant::now();
        let first = now.checked_sub(age).unwrap_or(now);
        // All or nothing, so that samples and stamps stay together.
        if self.samples.slots() < frames || self.stamps.slots() == 0 {
            return;
        }
        let Ok(chunk) = self.samples.write_chunk_uninit(frames) else {
            return;
        };
        let scale = 1.0 / self.channels as f32;
        let mono = data
            .chunks_exact(self.channels)
            .map(|frame| frame.iter().map(|&sample| f32::from_sample_(sample)).sum::<f32>() * scale);
        chunk.fill_from_iter(mono);
        // There is room: asked above, and nobody else writes.
        let _ = self.stamps.push(Stamp { frames, first });
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

fn build<T>(
    device: &cpal::Device,
    config: cpal::StreamConfig,
    mut writer: Writer,
    failed: Box<dyn FnMut(cpal::Error) + Send>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample,
    f32: FromSample<T>,
{
    let callback = move |data: &Data, info: &InputCallbackInfo| {
        if let Some(samples) = data.as_slice::<T>() {
            writer.write(samples, info);
        }
    };
    device.build_input_stream_raw(config, T::FORMAT, callback, failed, Some(OPEN_WITHIN))
}
