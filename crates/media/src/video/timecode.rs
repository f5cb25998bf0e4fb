//! A timecode drawn into pictures as black and white blocks, and read back from
//! luma or RGBA pixels after coding, scaling, cropping and mirroring. It measures
//! glass-to-glass delay and proves that a picture shown is the picture sent.
//!
//! The card lies in the middle: half as wide as the picture, 16 x 4 cells of equal width and height.
//! Row 0: sync `10101101` then CRC-8 of the rest; rows 1 and 2: milliseconds; row 3: frame number. First bit is
//! the top left one; 1 is light. A light margin of half a cell lies around it.

/// What a timecode says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timecode {
    /// Counts the source's pictures, modulo 2^16.
    pub frame: u16,
    /// Milliseconds since 1970, modulo 2^32, when the picture was made. Two processes of one machine share the clock.
    pub millis: u32,
    /// The picture was mirrored on its way.
    pub mirrored: bool,
}

impl Timecode {
    /// Milliseconds from this timecode to `now` (also modulo 2^32), negative if it lies ahead.
    pub fn age_millis(&self, now: u32) -> i32 {
        now.wrapping_sub(self.millis) as i32
    }
}

/// This moment as timecodes write it.
pub fn now_millis() -> u32 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| (since.as_millis() & 0xffff_ffff) as u32)
}

/// Cells across.
pub const COLUMNS: usize = 16;
/// Cells down.
pub const ROWS: usize = 4;
/// Share of the picture's width that the cells take; of its height, so that a square crop still holds them all.
const SHARE: f32 = 0.5;
const SYNC: u8 = 0b1010_1101;
/// Least difference between light and dark cells, of 219, for the card to count as one.
const LEAST_CONTRAST: f32 = 45.0;

/// Where the cells lie, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Card {
    /// Left edge of the cells.
    pub left: f32,
    /// Top edge of the cells.
    pub top: f32,
    /// Side of a cell.
    pub cell: f32,
}

impl Card {
    /// The card's place in a picture of a size.
    pub fn in_picture(width: u32, height: u32) -> Self {
        Self::centred(width as f32, height as f32, width as f32)
    }

    fn centred(width: f32, height: f32, source_width: f32) -> Self {
        let cell = source_width * SHARE / COLUMNS as f32;
        Self {
            left: (width - cell * COLUMNS as f32) / 2.0,
            top: (height - cell * ROWS as f32) / 2.0,
            cell,
        }
    }
}

/// The 64 cells of a timecode, row by row; `true` is light.
pub fn cells(frame: u16, millis: u32) -> [bool; COLUMNS * ROWS] {
    let body = body(frame, millis);
    let word = u64::from(SYNC) << 56 | u64::from(crc8(&body)) << 48 | u64::from(millis) << 16 | u64::from(frame);
    std::array::from_fn(|i| word >> (63 - i) & 1 == 1)
}

fn body(frame: u16, millis: u32) -> [u8; 6] {
    let (m, f) = (millis.to_be_bytes(), frame.to_be_bytes());
    [m[0], m[1], m[2], m[3], f[0], f[1]]
}

/// CRC-8 with polynomial 0x2f and start 0xff (AUTOSAR's), which finds all errors of up to three bits in 119.
fn crc8(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0xff, |crc, byte| {
        (0..8).fold(
            crc ^ byte,
            |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 0x2f } else { crc << 1 },
        )
    })
}

/// Reads the timecode from luma rows `stride` bytes apart. `None`: there is none that can be trusted.
pub fn read_timecode(luma: &[u8], width: u32, height: u32, stride: usize) -> Option<Timecode> {
    if stride < width as usize || luma.len() < stride.checked_mul(height as usize)? {
        return None;
    }
    read_with(width, height, |x, y| f32::from(luma[y * stride + x]))
}

/// Reads the timecode from RGBA pixels (four bytes each, rows without padding), as a canvas or a screenshot gives them.
pub fn read_timecode_rgba(rgba: &[u8], width: u32, height: u32) -> Option<Timecode> {
    let length = (width as usize).checked_mul(height as usize)?.checked_mul(4)?;
    if rgba.len() < length {
        return None;
    }
    read_with(width, height, |x, y| {
        let p = &rgba[(y * width as usize + x) * 4..][..3];
        0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2])
    })
}

/// Tries the picture as it is, then as the centred crop or the letterboxed whole of common source shapes.
fn read_with(width: u32, height: u32, pixel: impl Fn(usize, usize) -> f32) -> Option<Timecode> {
    if width < 64 || height < 16 {
        return None;
    }
    let (w, h) = (width as f32, height as f32);
    let shapes = [16.0 / 9.0, 4.0 / 3.0, 3.0 / 2.0, 11.0 / 9.0, 16.0 / 10.0, 1.0];
    let cover = shapes.iter().map(|shape| w.max(h * shape));
    let contain = shapes.iter().map(|shape| w.min(h * shape));
    let mut tried: Vec<f32> = Vec::new();
    for source_width in std::iter::once(w).chain(cover).chain(contain) {
        if tried.iter().any(|t| (t - source_width).abs() < 0.5) {
            continue;
        }
        tried.push(source_width);
        let card = Card::centred(w, h, source_width);
        if card.left < 0.0 || card.top < 0.0 || card.cell < 2.0 {
            continue;
        }
        if let Some(found) = read_card(&card, &pixel) {
            return Some(found);
        }
    }
    None
}

fn read_card(card: &Card, pixel: &impl Fn(usize, usize) -> f32) -> Option<Timecode> {
    let means: Vec<f32> = (0..COLUMNS * ROWS)
        .map(|i| cell_mean(card, i % COLUMNS, i / COLUMNS, pixel))
        .collect();
    let (low, high) = means
        .iter()
        .fold((f32::MAX, f32::MIN), |(l, h), &m| (l.min(m), h.max(m)));
    if high - low < LEAST_CONTRAST {
        return None;
    }
    let middle = (low + high) / 2.0;
    let unsure = (high - low) * 0.08;
    if means.iter().any(|m| (m - middle).abs() < unsure) {
        return None;
    }
    let word = |mirrored: bool| {
        (0..COLUMNS * ROWS).fold(0u64, |word, i| {
            let column = if mirrored {
                COLUMNS - 1 - i % COLUMNS
            } else {
                i % COLUMNS
            };
            word << 1 | u64::from(means[i / COLUMNS * COLUMNS + column] > middle)
        })
    };
    [false, true]
        .into_iter()
        .find_map(|mirrored| parse(word(mirrored), mirrored))
}

fn parse(word: u64, mirrored: bool) -> Option<Timecode> {
    let (frame, millis) = (word as u16, (word >> 16) as u32);
    let good = (word >> 56) as u8 == SYNC && (word >> 48) as u8 == crc8(&body(frame, millis));
    good.then_some(Timecode {
        frame,
        millis,
        mirrored,
    })
}

/// Mean of the inner half of a cell, where coding has not smeared its neighbours in.
fn cell_mean(card: &Card, column: usize, row: usize, pixel: &impl Fn(usize, usize) -> f32) -> f32 {
    let range = |start: f32, index: usize| {
        let from = start + (index as f32 + 0.27) * card.cell;
        let first = from.round() as usize;
        let last = ((from + card.cell * 0.46).round() as usize).max(first + 1);
        first..last
    };
    let (xs, ys) = (range(card.left, column), range(card.top, row));
    let count = (xs.len() * ys.len()) as f32;
    ys.map(|y| xs.clone().map(|x| pixel(x, y)).sum::<f32>()).sum::<f32>() / count
}
