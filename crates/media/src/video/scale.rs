//! Makes I420 pictures smaller: for simulcast layers and for the size that is shown.
//! Never makes them larger; the web view does that for nothing.

use fast_image_resize as fir;

use crate::I420;
use crate::video::planes;

/// Largest even size of `from`'s shape that fits into `within`, at most `from` itself.
pub fn fit_within(from: (u32, u32), within: (u32, u32)) -> (u32, u32) {
    shrink(from, |by_width, by_height| by_width.min(by_height), within)
}

/// Smallest even size of `from`'s shape that covers `area`, at most `from` itself.
pub fn fit_cover(from: (u32, u32), area: (u32, u32)) -> (u32, u32) {
    shrink(from, f64::max, area)
}

fn shrink(from: (u32, u32), choose: impl Fn(f64, f64) -> f64, to: (u32, u32)) -> (u32, u32) {
    let (w, h) = (f64::from(from.0.max(2)), f64::from(from.1.max(2)));
    let factor = choose(f64::from(to.0) / w, f64::from(to.1) / h).clamp(0.0, 1.0);
    let even = |x: f64| ((x / 2.0).round() as u32 * 2).max(2);
    (even(w * factor), even(h * factor))
}

/// Scales to an even size. The same size costs nothing; half of it is a 2x2 mean.
pub fn scale(picture: &I420, width: u32, height: u32) -> I420 {
    let (width, height) = ((width & !1).max(2), (height & !1).max(2));
    if (width, height) == (picture.width, picture.height) {
        return picture.clone();
    }
    let (w, h) = (width as usize, height as usize);
    let mut data = planes::blank(width, height);
    let (y, u, v) = planes::split(&mut data, width, height);
    let (from_w, from_h) = (picture.width as usize, picture.height as usize);
    let jobs = [
        (picture.y(), from_w, from_h, y, w, h),
        (picture.u(), from_w / 2, from_h / 2, u, w / 2, h / 2),
        (picture.v(), from_w / 2, from_h / 2, v, w / 2, h / 2),
    ];
    for (from, from_w, from_h, to, w, h) in jobs {
        if from_w == w * 2 && from_h == h * 2 {
            halve_plane(from, from_w, to, w);
        } else {
            resize_plane(from, from_w, from_h, to, w, h);
        }
    }
    I420 {
        width,
        height,
        data,
        time: picture.time,
    }
}

/// Mean of each 2x2 block. Rows of `from_w` bytes into rows of half of that.
fn halve_plane(from: &[u8], from_w: usize, to: &mut [u8], w: usize) {
    for (out, pair) in to.chunks_exact_mut(w).zip(from.chunks_exact(from_w * 2)) {
        let (top, bottom) = pair.split_at(from_w);
        for ((out, t), b) in out.iter_mut().zip(top.chunks_exact(2)).zip(bottom.chunks_exact(2)) {
            *out = ((u16::from(t[0]) + u16::from(t[1]) + u16::from(b[0]) + u16::from(b[1]) + 2) >> 2) as u8;
        }
    }
}

/// Any other size: the mean of the covered area, or the nearest sample should the resizer refuse.
fn resize_plane(from: &[u8], from_w: usize, from_h: usize, to: &mut [u8], w: usize, h: usize) {
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Box));
    // Typed: the untyped call would compile the resizer for every kind of pixel there is.
    let resized = fir::images::TypedImageRef::<fir::pixels::U8>::from_buffer(from_w as u32, from_h as u32, from)
        .ok()
        .zip(fir::images::TypedImage::<fir::pixels::U8>::from_buffer(w as u32, h as u32, to).ok())
        .is_some_and(|(source, mut target)| fir::Resizer::new().resize_typed(&source, &mut target, &options).is_ok());
    if !resized {
        for (row, out) in to.chunks_exact_mut(w).enumerate() {
            let line = &from[row * from_h / h * from_w..];
            for (column, out) in out.iter_mut().enumerate() {
                *out = line[column * from_w / w];
            }
        }
    }
}

/// Cuts a part out; position and size are rounded down to even and kept inside.
pub fn crop(picture: &I420, x: u32, y: u32, width: u32, height: u32) -> I420 {
    let x = (x & !1).min(picture.width - 2);
    let y = (y & !1).min(picture.height - 2);
    let width = (width & !1).clamp(2, picture.width - x);
    let height = (height & !1).clamp(2, picture.height - y);
    let mut data = planes::blank(width, height);
    let (luma, u, v) = planes::split(&mut data, width, height);
    for (plane, out, divide) in [(picture.y(), luma, 1), (picture.u(), u, 2), (picture.v(), v, 2)] {
        let stride = (picture.width / divide) as usize;
        let (x, y, w) = ((x / divide) as usize, (y / divide) as usize, (width / divide) as usize);
        for (row, out) in plane.chunks_exact(stride).skip(y).zip(out.chunks_exact_mut(w)) {
            out.copy_from_slice(&row[x..x + w]);
        }
    }
    I420 {
        width,
        height,
        data,
        time: picture.time,
    }
}

/// The middle part with the shape of `aspect`: what a tile with `object-fit: cover` shows.
pub fn crop_to_shape(picture: &I420, aspect: (u32, u32)) -> I420 {
    let (w, h) = (u64::from(picture.width), u64::from(picture.height));
    let (aw, ah) = (u64::from(aspect.0.max(1)), u64::from(aspect.1.max(1)));
    let (cw, ch) = if w * ah > h * aw {
        (h * aw / ah, h)
    } else {
        (w, w * ah / aw)
    };
    crop(
        picture,
        ((w - cw) / 2) as u32,
        ((h - ch) / 2) as u32,
        cw as u32,
        ch as u32,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::video::testing::grey;

    fn ramp(width: u32, height: u32) -> I420 {
        let mut data: Vec<u8> = (0..height)
            .flat_map(|_| (0..width).map(move |x| (x * 255 / width) as u8))
            .collect();
        data.resize((width * height * 3 / 2) as usize, 90);
        I420 {
            width,
            height,
            data: data.into(),
            time: Instant::now(),
        }
    }

    #[test]
    fn every_scaled_picture_has_the_size_asked_for_and_the_same_content() {
        let from = ramp(640, 480);
        for (w, h) in [(320, 240), (240, 180), (160, 90), (2, 2), (640, 480), (638, 2)] {
            let small = scale(&from, w, h);
            assert_eq!(
                (small.width, small.height, small.data.len()),
                (w, h, (w * h * 3 / 2) as usize)
            );
            let middle = small.y()[(h / 2 * w + w / 2) as usize];
            assert!(middle.abs_diff(128) < 66, "{w}x{h}: {middle}");
            assert!(small.u().iter().all(|&u| u == 90));
        }
    }

    #[test]
    fn sizes_keep_their_shape_and_never_grow() {
        assert_eq!(fit_within((1280, 720), (640, 480)), (640, 360));
        assert_eq!(fit_cover((1280, 720), (400, 300)), (534, 300));
        assert_eq!(fit_within((320, 240), (1280, 720)), (320, 240));
        assert_eq!(fit_cover((0, 0), (0, 0)), (2, 2));
    }

    #[test]
    fn cropping_keeps_the_middle() {
        let part = crop_to_shape(&ramp(640, 360), (4, 3));
        assert_eq!((part.width, part.height), (480, 360));
        assert!(part.y()[240].abs_diff(127) < 3);
        assert_eq!(crop(&grey(4, 4, 9), 100, 100, 100, 100).width, 2);
    }
}
