//! The test pattern: soft light drifting over a gradient in the participant's hue,
//! a dot that circles once in four seconds with a fading tail, and a card with a
//! timecode in the middle. What newcomers see first, and what measurements read.

use std::time::Instant;

use crate::I420;
use crate::video::planes;
use crate::video::timecode::{COLUMNS, Card, ROWS, cells};
pub use crate::video::timecode::{Timecode, now_millis, read_timecode, read_timecode_rgba};

/// The soft parts are computed on a grid of this many pixels and interpolated: 1/64 of the work, no visible difference.
const GRID: usize = 8;
/// Luma of the card's dark and light cells.
const INK: u8 = 28;
const PAPER: u8 = 226;
/// Tail of the circling dot: how many dots, and how far apart in turns.
const TAIL: usize = 30;

/// Draws the pattern for one participant.
#[derive(Debug, Clone)]
pub struct TestPattern {
    width: u32,
    height: u32,
    hue: u16,
}

/// A drifting patch of light.
struct Blob {
    x: f32,
    y: f32,
    inverse_radius: f32,
    luma: f32,
    hue_shift: f32,
}

/// One point of the soft field: luma and the two chroma values.
type Soft = [f32; 3];

impl TestPattern {
    /// A pattern of a size (rounded down to even, at least 64x36) and a hue in degrees.
    pub fn new(width: u32, height: u32, hue: u16) -> Self {
        Self {
            width: (width & !1).clamp(64, 7680),
            height: (height & !1).clamp(36, 4320),
            hue: hue % 360,
        }
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Draws picture number `frame`, which carries `millis` as its time.
    pub fn draw(&self, frame: u32, millis: u32, time: Instant) -> I420 {
        let (w, h) = (self.width as usize, self.height as usize);
        let mut data = planes::blank(self.width, self.height);
        let seconds = f64::from(millis) / 1000.0;
        {
            let (y, u, v) = planes::split(&mut data, self.width, self.height);
            let mut canvas = Canvas { w, h, y, u, v };
            self.draw_soft(&mut canvas, seconds);
            self.draw_clock(&mut canvas, seconds);
            draw_card(&mut canvas, &cells(frame as u16, millis));
        }
        I420 {
            width: self.width,
            height: self.height,
            data,
            time,
        }
    }

    fn draw_soft(&self, canvas: &mut Canvas, seconds: f64) {
        let (across, down) = (canvas.w.div_ceil(GRID) + 1, canvas.h.div_ceil(GRID) + 1);
        let field = self.soft_field(across, down, seconds);
        let planes: [(&mut [u8], usize, usize, usize); 3] = [
            (canvas.y, canvas.w, GRID, 0),
            (canvas.u, canvas.w / 2, GRID / 2, 1),
            (canvas.v, canvas.w / 2, GRID / 2, 2),
        ];
        for (plane, width, step, part) in planes {
            for (row, line) in plane.chunks_exact_mut(width).enumerate() {
                let (top, fraction) = (row / step, (row % step) as f32 / step as f32);
                let at = |column: usize| {
                    let (a, b) = (
                        field[top * across + column][part],
                        field[(top + 1) * across + column][part],
                    );
                    a + (b - a) * fraction
                };
                let mut left = at(0);
                for (column, span) in line.chunks_mut(step).enumerate() {
                    let right = at(column + 1);
                    // Fixed point: 16 bits of fraction; the half makes it round.
                    let mut value = (left * 65536.0) as i32 + 32768;
                    let slope = ((right - left) * 65536.0) as i32 / step as i32;
                    for out in span {
                        *out = (value >> 16) as u8;
                        value += slope;
                    }
                    left = right;
                }
            }
        }
    }

    fn soft_field(&self, across: usize, down: usize, seconds: f64) -> Vec<Soft> {
        let shape = self.width as f32 / self.height as f32;
        let wave = |period: f64, phase: f64| ((seconds / period + phase) * std::f64::consts::TAU).sin() as f32;
        let blobs = [
            Blob {
                x: 0.24 * shape + 0.12 * wave(11.0, 0.1),
                y: 0.30 + 0.16 * wave(7.0, 0.4),
                inverse_radius: 2.6,
                luma: 46.0,
                hue_shift: 22.0,
            },
            Blob {
                x: 0.78 * shape + 0.14 * wave(13.0, 0.6),
                y: 0.66 + 0.18 * wave(9.0, 0.2),
                inverse_radius: 2.1,
                luma: 38.0,
                hue_shift: -22.0,
            },
            Blob {
                x: 0.52 * shape + 0.30 * wave(17.0, 0.8),
                y: 0.95 + 0.10 * wave(8.0, 0.0),
                inverse_radius: 2.9,
                luma: -26.0,
                hue_shift: 0.0,
            },
        ];
        let base = chroma_of(f32::from(self.hue));
        let shifted = blobs
            .each_ref()
            .map(|blob| chroma_of(f32::from(self.hue) + blob.hue_shift));
        let mut field = Vec::with_capacity(across * down);
        for row in 0..down {
            let y = row as f32 * GRID as f32 / self.height as f32;
            for column in 0..across {
                let x = column as f32 * GRID as f32 / self.height as f32;
                let mut luma = 132.0 - 46.0 * y;
                let mut chroma = base;
                for (blob, shifted) in blobs.iter().zip(&shifted) {
                    let square = ((x - blob.x).powi(2) + (y - blob.y).powi(2)) * blob.inverse_radius.powi(2);
                    let strength = (1.0 - square).max(0.0).powi(2);
                    luma += blob.luma * strength;
                    for (c, s) in chroma.iter_mut().zip(shifted) {
                        *c += (s - *c) * strength * 0.6;
                    }
                }
                field.push([luma.clamp(20.0, 232.0), 128.0 + chroma[0], 128.0 + chroma[1]]);
            }
        }
        field
    }

    fn draw_clock(&self, canvas: &mut Canvas, seconds: f64) {
        let (cx, cy) = (canvas.w as f32 / 2.0, canvas.h as f32 / 2.0);
        let radius = cx.min(cy);
        let turn = (seconds / 4.0).fract() as f32;
        for i in (0..TAIL).rev() {
            let fade = 1.0 - i as f32 / TAIL as f32;
            let angle = (turn - i as f32 * 0.006) * std::f32::consts::TAU;
            let (x, y) = (cx + angle.sin() * radius * 1.12, cy - angle.cos() * radius * 0.82);
            canvas.dot(x, y, radius * 0.075 * (0.45 + 0.55 * fade), 236.0, fade * fade * 0.8);
        }
    }
}

/// The chroma of a hue, at the strength the pattern uses.
fn chroma_of(hue: f32) -> [f32; 2] {
    let channel = |offset: f32| {
        let k = (offset + hue.rem_euclid(360.0) / 60.0).rem_euclid(6.0);
        1.0 - (k.min(4.0 - k)).clamp(0.0, 1.0)
    };
    let (r, g, b) = (channel(5.0), channel(3.0), channel(1.0));
    let u = -0.148 * r - 0.291 * g + 0.439 * b;
    let v = 0.439 * r - 0.368 * g - 0.071 * b;
    [u * 105.0, v * 105.0]
}

/// The planes while they are drawn on.
struct Canvas<'a> {
    w: usize,
    h: usize,
    y: &'a mut [u8],
    u: &'a mut [u8],
    v: &'a mut [u8],
}

impl Canvas<'_> {
    /// A soft-edged white dot.
    fn dot(&mut self, x: f32, y: f32, radius: f32, luma: f32, opacity: f32) {
        let rows = (y - radius - 1.0).max(0.0) as usize..((y + radius + 2.0).max(0.0) as usize).min(self.h);
        let columns = (x - radius - 1.0).max(0.0) as usize..((x + radius + 2.0).max(0.0) as usize).min(self.w);
        for row in rows {
            for column in columns.clone() {
                let distance = ((column as f32 - x).powi(2) + (row as f32 - y).powi(2)).sqrt();
                let cover = (radius - distance + 0.5).clamp(0.0, 1.0) * opacity;
                if cover > 0.0 {
                    let at = row * self.w + column;
                    blend(&mut self.y[at], luma, cover);
                    if row % 2 == 0 && column % 2 == 0 {
                        let at = row / 2 * (self.w / 2) + column / 2;
                        blend(&mut self.u[at], 128.0, cover * 0.7);
                        blend(&mut self.v[at], 128.0, cover * 0.7);
                    }
                }
            }
        }
    }

    /// A filled rectangle without colour, between rounded pixel edges.
    fn rectangle(&mut self, left: f32, top: f32, right: f32, bottom: f32, luma: u8) {
        let clip = |edge: f32, most: usize| (edge.round().max(0.0) as usize).min(most);
        let (x0, x1) = (clip(left, self.w), clip(right, self.w));
        for row in clip(top, self.h)..clip(bottom, self.h) {
            self.y[row * self.w + x0..row * self.w + x1].fill(luma);
            let chroma = row / 2 * (self.w / 2);
            self.u[chroma + x0 / 2..chroma + x1.div_ceil(2)].fill(128);
            self.v[chroma + x0 / 2..chroma + x1.div_ceil(2)].fill(128);
        }
    }
}

fn blend(value: &mut u8, to: f32, share: f32) {
    let from = f32::from(*value);
    *value = (from + (to - from) * share) as u8;
}

fn draw_card(canvas: &mut Canvas, cells: &[bool; COLUMNS * ROWS]) {
    let Card { left, top, cell } = Card::in_picture(canvas.w as u32, canvas.h as u32);
    let (right, bottom) = (left + cell * COLUMNS as f32, top + cell * ROWS as f32);
    let margin = cell * 0.5;
    // Three rectangles make corners look rounded.
    canvas.rectangle(
        left - margin,
        top - margin * 0.4,
        right + margin,
        bottom + margin * 0.4,
        PAPER,
    );
    canvas.rectangle(
        left - margin * 0.7,
        top - margin * 0.7,
        right + margin * 0.7,
        bottom + margin * 0.7,
        PAPER,
    );
    canvas.rectangle(
        left - margin * 0.4,
        top - margin,
        right + margin * 0.4,
        bottom + margin,
        PAPER,
    );
    for (i, light) in cells.iter().enumerate() {
        if !light {
            let (x, y) = (left + (i % COLUMNS) as f32 * cell, top + (i / COLUMNS) as f32 * cell);
            canvas.rectangle(x, y, x + cell, y + cell, INK);
        }
    }
}

/// The hue, in degrees, of the picture outside the card, from its chroma planes. `None`: it has no colour.
pub fn read_hue(picture: &I420) -> Option<u16> {
    let mean = |plane: &[u8]| plane.iter().map(|&c| f64::from(c)).sum::<f64>() / plane.len().max(1) as f64 - 128.0;
    let (u, v) = (mean(picture.u()), mean(picture.v()));
    hue_of([1.596 * v, -0.391 * u - 0.813 * v, 2.018 * u])
}

/// The same from RGBA pixels.
pub fn read_hue_rgba(rgba: &[u8]) -> Option<u16> {
    let mut sum = [0.0; 3];
    for pixel in rgba.chunks_exact(4) {
        for (sum, value) in sum.iter_mut().zip(pixel) {
            *sum += f64::from(*value);
        }
    }
    let count = (rgba.len() / 4).max(1) as f64;
    hue_of(sum.map(|s| s / count))
}

fn hue_of([r, g, b]: [f64; 3]) -> Option<u16> {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    let span = most - least;
    if span < 4.0 {
        return None;
    }
    let sixth = if most == r {
        (g - b) / span
    } else if most == g {
        2.0 + (b - r) / span
    } else {
        4.0 + (r - g) / span
    };
    Some(((sixth * 60.0).rem_euclid(360.0).round() as u16) % 360)
}

/// Difference of two hues, 0 to 180 degrees.
pub fn hue_distance(a: u16, b: u16) -> u16 {
    let difference = a.abs_diff(b) % 360;
    difference.min(360 - difference)
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
