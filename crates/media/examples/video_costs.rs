//! Prints what video costs on this machine: `cargo run -p confab-media --release --example video_costs [FILM.y4m]`.
//! One thread, its own processor time where the system tells it (Linux), else the clock's; without a film the test pattern with noise stands in.

use std::hint::black_box;
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::Result;
use confab_media::I420;
use confab_media::video::convert::{PixelFormat, to_i420, to_rgba};
use confab_media::video::pattern::{TestPattern, read_timecode};
use confab_media::video::scale::scale;
use confab_media::video::vp8::{Decoder, Encoder, EncoderConfig};
use confab_media::video::y4m::Y4mReader;
use confab_types::Bitrate;

const FRAMES: u32 = 150;

fn main() -> Result<()> {
    let film = std::env::args().nth(1);
    let pictures = pictures(film.as_deref())?;
    println!(
        "{FRAMES} pictures of {}",
        film.as_deref().unwrap_or("the test pattern with noise")
    );
    for (width, height, kbps) in [(1280, 720, 1700), (640, 480, 700), (640, 360, 510), (320, 180, 153)] {
        let scaled: Vec<I420> = pictures.iter().map(|p| scale(p, width, height)).collect();
        for (layers, speed) in [(1, 6), (3, 6), (3, 8), (3, 10), (3, 12)] {
            let bitrate = Bitrate::kbps(kbps);
            codec(
                &scaled,
                EncoderConfig {
                    width,
                    height,
                    fps: 30,
                    bitrate,
                    temporal_layers: layers,
                    speed,
                },
            )?;
        }
    }
    let full = &pictures[0];
    let rgba = to_rgba(full)?;
    let yuyv = vec![100; 1280 * 720 * 2];
    let pattern = TestPattern::new(1280, 720, 200);
    let now = Instant::now();
    time("pattern 720p", || pattern.draw(1, 1, now));
    time("read timecode 720p", || read_timecode(full.y(), 1280, 720, 1280));
    time("half of 720p", || scale(full, 640, 360));
    time("720p to 534x300", || scale(full, 534, 300));
    time("720p to RGBA", || to_rgba(full));
    time("RGBA to I420", || {
        to_i420(PixelFormat::Rgba, &rgba, (1280, 720), None, now)
    });
    time("YUYV to I420", || {
        to_i420(PixelFormat::Yuyv, &yuyv, (1280, 720), None, now)
    });
    Ok(())
}

/// What this thread has spent so far.
fn spent() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = schedstat.and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn pictures(film: Option<&str>) -> Result<Vec<I420>> {
    let start = Instant::now();
    let at = |n: u32| start + Duration::from_millis(33) * n;
    match film {
        Some(path) => {
            let mut reader = Y4mReader::open(Path::new(path))?;
            (0..FRAMES)
                .map(|n| Ok(scale(&reader.next_frame(at(n))?, 1280, 720)))
                .collect()
        }
        None => {
            let pattern = TestPattern::new(1280, 720, 200);
            Ok((0..FRAMES).map(|n| noisy(pattern.draw(n, n * 33, at(n)), n)).collect())
        }
    }
}

/// Sensor noise, so that there is something to encode.
fn noisy(picture: I420, seed: u32) -> I420 {
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    let mut data = picture.data.to_vec();
    for value in &mut data[..1280 * 720] {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = value.saturating_add((state >> 29) as u8);
    }
    I420 {
        data: data.into(),
        ..picture
    }
}

fn codec(pictures: &[I420], config: EncoderConfig) -> Result<()> {
    let (mut encoder, mut decoder) = (Encoder::new(config)?, Decoder::new()?);
    let (mut encoding, mut decoding, mut bytes, mut coded, mut error) = (Duration::ZERO, Duration::ZERO, 0, 0, 0.0);
    for picture in pictures {
        let started = spent();
        let frame = encoder.encode(picture, false)?;
        encoding += spent() - started;
        let Some(frame) = frame else { continue };
        (bytes, coded) = (bytes + frame.data.len(), coded + 1);
        let started = spent();
        let decoded = decoder.decode(&frame.data, Instant::now())?;
        decoding += spent() - started;
        if let Some(decoded) = decoded {
            let squares = picture
                .y()
                .iter()
                .zip(decoded.y())
                .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2));
            error += squares.sum::<u64>() as f64 / picture.y().len() as f64;
        }
    }
    let EncoderConfig {
        width,
        height,
        temporal_layers,
        speed,
        ..
    } = config;
    println!(
        "{width}x{height} L1T{temporal_layers} speed {speed:2}: encode {:5.2} ms, decode {:4.2} ms, {:4} kbps of {}, {coded} coded, {:.1} dB",
        encoding.as_secs_f64() * 1000.0 / pictures.len() as f64,
        decoding.as_secs_f64() * 1000.0 / f64::from(coded.max(1)),
        bytes as u64 * 8 * 30 / u64::from(FRAMES) / 1000,
        config.bitrate.as_kbps(),
        10.0 * (255.0f64.powi(2) / (error / f64::from(coded.max(1)))).log10(),
    );
    Ok(())
}

fn time<T>(what: &str, mut run: impl FnMut() -> T) {
    black_box(run());
    let started = spent();
    for _ in 0..100 {
        black_box(run());
    }
    println!("{what}: {:.2} ms", (spent() - started).as_secs_f64() * 10.0);
}
