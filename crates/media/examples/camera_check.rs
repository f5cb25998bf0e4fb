//! Checks the camera path on a machine with the kernel's `vivid` test camera: opens it as the app does, sends the
//! pictures through VP8, checks their colours, then pulls the camera out and plugs it in again. Exit code 0: all good.
//!
//! `scripts/camera-vm` runs it in an emulated machine.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use confab_media::video::slot::SlotWait;
use confab_media::video::vp8::Decoder;
use confab_media::video::{CaptureWish, DeviceEvent, FrameSlot, SimulcastConfig, SimulcastEncoder, VideoCapture};
use confab_media::{DeviceError, I420, NoTransform, VideoSourceSpec, camera, video};

/// Small: the machine is emulated.
const WISH: CaptureWish = CaptureWish {
    width: 320,
    height: 180,
    fps: 15,
};
/// What vivid shows a quarter down in the middle: the magenta bar.
const MAGENTA: [u8; 3] = [188, 0, 189];
const PATIENCE: Duration = Duration::from_secs(60);
const DRIVER: &str = "/sys/bus/platform/drivers/vivid";

fn main() -> Result<()> {
    let cameras = camera::cameras();
    println!("cameras: {cameras:?}");
    ensure!(cameras.len() == 1 && cameras[0].default, "one camera must be found");
    ensure!(cameras[0].label.to_lowercase().contains("vivid"), "it must be vivid");
    unknown_camera()?;

    let (slot, capture, events) = open(None)?;
    frames(&slot, 20)?;
    println!("frames: 20 captured, colour good");
    through_vp8(&slot)?;
    second_capture_takes_over(&cameras[0].id, &events)?;
    drop(capture);
    let (slot, _capture, events) = open(Some(&cameras[0].id))?;
    unplug_and_replug(&slot, &events)?;
    println!("ALL GOOD");
    Ok(())
}

fn open(id: Option<&str>) -> Result<(FrameSlot, VideoCapture, Receiver<DeviceEvent>)> {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let slot = FrameSlot::new();
    let spec = VideoSourceSpec::Camera(id.map(str::to_owned));
    let tell = Arc::new(move |event| {
        println!("event: {event:?}");
        if let Ok(sender) = sender.lock() {
            // Nobody listens at the very end.
            let _ = sender.send(event);
        }
    });
    let capture = video::open(&spec, WISH, slot.clone(), tell)?;
    let opened = events.recv_timeout(PATIENCE)?;
    ensure!(
        matches!(
            opened,
            DeviceEvent::Opened {
                width: 320,
                height: 180,
                ..
            }
        ),
        "opened as {opened:?}"
    );
    Ok((slot, capture, events))
}

fn unknown_camera() -> Result<()> {
    let spec = VideoSourceSpec::Camera(Some("no such camera".into()));
    let error = video::open(&spec, WISH, FrameSlot::new(), Arc::new(|_| {}))
        .err()
        .context("it opened")?;
    ensure!(matches!(error, DeviceError::NotFound(_)), "{error:?}");
    println!("unknown camera: {error}");
    Ok(())
}

/// Waits for pictures and checks each one's colour.
fn frames(slot: &FrameSlot, count: usize) -> Result<()> {
    for number in 0..count {
        let SlotWait::Frame(picture) = slot.wait(PATIENCE) else {
            bail!("picture {number} did not come")
        };
        check_colour(&picture).with_context(|| format!("picture {number}"))?;
    }
    Ok(())
}

fn check_colour(picture: &I420) -> Result<()> {
    let rgba = video::convert::to_rgba(picture)?;
    let at = ((picture.height / 4) * picture.width + picture.width / 2) as usize * 4;
    let seen = &rgba[at..at + 3];
    let near = seen.iter().zip(MAGENTA).all(|(a, b)| a.abs_diff(b) <= 16);
    ensure!(near, "at the middle of the upper half is {seen:?}, not {MAGENTA:?}");
    Ok(())
}

/// As a call sends and shows it.
fn through_vp8(slot: &FrameSlot) -> Result<()> {
    let (sender, coded) = channel();
    let config = SimulcastConfig::single(WISH.width, WISH.height, WISH.fps, confab_types::Bitrate::kbps(400));
    let out = Box::new(move |frame| drop(sender.send(frame)));
    let encoder = SimulcastEncoder::start(config, slot.clone(), Box::new(NoTransform), out)?;
    let mut decoder = Decoder::new()?;
    for number in 0..10 {
        let frame: confab_media::EncodedVideo = coded.recv_timeout(PATIENCE)?;
        ensure!(frame.keyframe == (number == 0), "keyframe at {number}");
        let picture = decoder.decode(&frame.data, Instant::now())?.context("no picture")?;
        check_colour(&picture).with_context(|| format!("decoded picture {number}"))?;
    }
    println!(
        "vp8: 10 pictures encoded and decoded, colour good, {:?}",
        encoder.stats()
    );
    Ok(())
}

/// The newest capture takes the camera over, and the one before is told.
fn second_capture_takes_over(id: &str, first: &Receiver<DeviceEvent>) -> Result<()> {
    let (slot, capture, _events) = open(Some(id))?;
    let told = first.recv_timeout(PATIENCE)?;
    ensure!(
        matches!(told, DeviceEvent::Lost(DeviceError::Busy(_))),
        "the first capture was told {told:?}"
    );
    frames(&slot, 3)?;
    drop(capture);
    println!("second capture: took over");
    Ok(())
}

fn unplug_and_replug(slot: &FrameSlot, events: &Receiver<DeviceEvent>) -> Result<()> {
    frames(slot, 3)?;
    std::fs::write(format!("{DRIVER}/unbind"), "vivid.0").context("unbind")?;
    let event = events.recv_timeout(PATIENCE)?;
    ensure!(
        matches!(event, DeviceEvent::Lost(DeviceError::Lost(_))),
        "after unplugging: {event:?}"
    );
    ensure!(camera::cameras().is_empty(), "the camera is still listed");
    while let SlotWait::Frame(_) = slot.wait(Duration::ZERO) {}
    std::fs::write(format!("{DRIVER}/bind"), "vivid.0").context("bind")?;
    let event = events.recv_timeout(PATIENCE)?;
    ensure!(
        matches!(event, DeviceEvent::Opened { .. }),
        "after plugging in: {event:?}"
    );
    frames(slot, 10)?;
    println!("unplug and replug: pictures are back, colour good");
    Ok(())
}
