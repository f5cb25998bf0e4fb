//! A real speaker: the mixing thread fills a ring, the callback empties it and notes what was played.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{JoinHandle, Thread};

use cpal::traits::DeviceTrait;
use cpal::{Data, FromSample, OutputCallbackInfo, SampleFormat, SizedSample};
use rtrb::{Consumer, Producer, RingBuffer};

use super::device::supervise::{Message, OPEN_WITHIN, Opener, Supervisor};
use super::event::DeviceEvents;
use super::mixer::{Demand, Output};
use super::playout::{FarRing, PlayoutState, SpeakerTarget};
use super::thread::spawn;
use crate::api::{DeviceError, DeviceInfo, DeviceKind};

/// What a speaker is connected to.
pub(super) struct Wiring {
    pub(super) outputs: Sender<Output>,
    pub(super) mixer: Thread,
    pub(super) state: Arc<PlayoutState>,
    pub(super) events: DeviceEvents,
}

/// A speaker being kept open.
pub(super) struct Speaker {
    messages: Sender<Message>,
    stop: Arc<AtomicBool>,
    supervisor: Option<JoinHandle<()>>,
}

impl Speaker {
    pub(super) fn start(target: SpeakerTarget, wiring: Wiring) -> Result<Self, DeviceError> {
        let (messages, received) = mpsc::channel();
        let (sender, stop) = (messages.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let supervisor = spawn("confab-speaker", DeviceKind::Speaker, move || {
            let events = Arc::clone(&wiring.events);
            let mut supervisor = Supervisor::new(Out { wiring }, wish(target), sender, events);
            // Reported to the state and the events inside.
            let _ = supervisor.begin();
            supervisor.run(&received, || stopped.load(Ordering::Acquire));
        })?;
        Ok(Self {
            messages,
            stop,
            supervisor: Some(supervisor),
        })
    }

    pub(super) fn set_target(&self, target: SpeakerTarget) {
        // The supervisor lives as long as this.
        let _ = self.messages.send(Message::Want(wish(target)));
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.messages.send(Message::Want(None));
        if let Some(supervisor) = self.supervisor.take() {
            // At most one attempt to open, which is bounded.
            let _ = supervisor.join();
        }
    }
}

fn wish(target: SpeakerTarget) -> Option<Option<String>> {
    match target {
        SpeakerTarget::Device(id) => Some(id),
        SpeakerTarget::Null => None,
    }
}

/// Opens output streams.
struct Out {
    wiring: Wiring,
}

impl Out {
    fn switch(&self, output: Output) {
        // The mixer ends after the speaker.
        let _ = self.wiring.outputs.send(output);
        self.wiring.mixer.unpark();
    }
}

impl Opener for Out {
    const KIND: DeviceKind = DeviceKind::Speaker;

    fn open(
        &mut self,
        device: &cpal::Device,
        config: cpal::StreamConfig,
        format: SampleFormat,
        calls: Arc<AtomicU32>,
        failed: Box<dyn FnMut(cpal::Error) + Send>,
    ) -> Result<cpal::Stream, cpal::Error> {
        let rate = config.sample_rate;
        let demand = Arc::new(Demand {
            largest: AtomicU32::new(0),
            underruns: AtomicU32::new(0),
            calls,
        });
        // Half a second each: the mixer fills only what the callback asks for, the canceller reads every 10 ms.
        let (ring, samples) = RingBuffer::new(rate as usize / 2);
        let (played, far_end) = RingBuffer::new(rate as usize / 2);
        let reader = Reader {
            samples,
            played,
            channels: usize::from(config.channels.max(1)),
            demand: Arc::clone(&demand),
            mixer: self.wiring.mixer.clone(),
        };
        let stream = match format {
            SampleFormat::F32 => build::<f32>(device, config, reader, failed),
            SampleFormat::I16 => build::<i16>(device, config, reader, failed),
            SampleFormat::I32 => build::<i32>(device, config, reader, failed),
            SampleFormat::U16 => build::<u16>(device, config, reader, failed),
            SampleFormat::U8 => build::<u8>(device, config, reader, failed),
            _ => Err(cpal::Error::new(cpal::ErrorKind::UnsupportedConfig)),
        }?;
        self.wiring.state.far_end.replace(Some(FarRing::new(far_end, rate)));
        self.switch(Output::Ring { ring, rate, demand });
        Ok(stream)
    }

    fn closed(&mut self) {
        self.wiring.state.far_end.replace(None);
        *self.wiring.state.device.lock() = None;
        self.switch(Output::Null);
    }

    fn report(&mut self, state: Result<DeviceInfo, DeviceError>) {
        let (device, problem) = match state {
            Ok(info) => (Some(info), None),
            Err(error) => (None, Some(error)),
        };
        *self.wiring.state.device.lock() = device;
        *self.wiring.state.problem.lock() = problem;
    }
}

/// The callback's half: no lock, no allocation, no log.
struct Reader {
    samples: Consumer<f32>,
    played: Producer<f32>,
    channels: usize,
    demand: Arc<Demand>,
    mixer: Thread,
}

impl Reader {
    fn read<T>(&mut self, data: &mut [T])
    where
        T: SizedSample + FromSample<f32>,
    {
        let frames = data.len() / self.channels;
        self.demand.calls.fetch_add(1, Ordering::Release);
        let largest = self.demand.largest.load(Ordering::Relaxed);
        self.demand.largest.store(largest.max(frames as u32), Ordering::Relaxed);
        let mut missing = false;
        for frame in data.chunks_exact_mut(self.channels) {
            let sample = self.samples.pop().unwrap_or_else(|_| {
                missing = true;
                0.0
            });
            // Full: nobody cancels echoes.
            let _ = self.played.push(sample);
            for (channel, out) in frame.iter_mut().enumerate() {
                *out = T::from_sample_(if channel < 2 { sample } else { 0.0 });
            }
        }
        if missing {
            self.demand.underruns.fetch_add(1, Ordering::Relaxed);
        }
        self.mixer.unpark();
    }
}

fn build<T>(
    device: &cpal::Device,
    config: cpal::StreamConfig,
    mut reader: Reader,
    failed: Box<dyn FnMut(cpal::Error) + Send>,
) -> Result<cpal::Stream, cpal::Error>
where
    T: SizedSample + FromSample<f32>,
{
    let callback = move |data: &mut Data, _: &OutputCallbackInfo| {
        if let Some(samples) = data.as_slice_mut::<T>() {
            reader.read(samples);
        }
    };
    device.build_output_stream_raw(config, T::FORMAT, callback, failed, Some(OPEN_WITHIN))
}
