//! Which of a camera's formats to use. Pure: lists go in, a ranking comes out.

use nokhwa::utils::{CameraFormat, FrameFormat};

use crate::video::CaptureWish;

/// Below this many frames a second a picture is worse than one of a smaller size.
const GOOD_FPS: u32 = 24;
/// Costs, as halvings of the picture's size: what decoding JPEG is worth, and formats that drivers often get wrong.
const JPEG_COST: f32 = 0.8;
const ODD_COST: f32 = 4.0;

/// All formats that can be converted, best first. Drivers list formats that do not work: try them in this order.
pub fn rank(mut formats: Vec<CameraFormat>, wish: CaptureWish) -> Vec<CameraFormat> {
    formats.retain(|f| f.width() >= 16 && f.height() >= 16);
    formats.sort_by(|a, b| cost(a, wish).total_cmp(&cost(b, wish)));
    formats.dedup();
    formats
}

fn cost(format: &CameraFormat, wish: CaptureWish) -> f32 {
    let halvings = |have: u32, want: u32| (have.max(1) as f32 / want.max(1) as f32).log2();
    let (wide, high) = (
        halvings(format.width(), wish.width),
        halvings(format.height(), wish.height),
    );
    // Too small loses detail for good; too large only costs time.
    let size: f32 = [wide, high].iter().map(|h| if *h < 0.0 { -h * 3.0 } else { *h }).sum();
    let wanted = wish.fps.clamp(1, GOOD_FPS);
    let rate = if format.frame_rate() >= wanted {
        // Higher rates than wished for are only thrown away.
        halvings(format.frame_rate(), wish.fps).max(0.0) * 0.3
    } else {
        -halvings(format.frame_rate(), wanted) * 4.0
    };
    let kind = match format.format() {
        FrameFormat::YUYV | FrameFormat::NV12 => 0.0,
        FrameFormat::MJPEG => JPEG_COST,
        FrameFormat::RAWRGB | FrameFormat::RAWBGR | FrameFormat::GRAY => ODD_COST,
    };
    size + rate + kind
}

#[cfg(test)]
mod tests {
    use nokhwa::utils::Resolution;

    use super::*;

    const WISH: CaptureWish = CaptureWish {
        width: 1280,
        height: 720,
        fps: 30,
    };

    fn format(width: u32, height: u32, kind: FrameFormat, fps: u32) -> CameraFormat {
        CameraFormat::new(Resolution::new(width, height), kind, fps)
    }

    fn first(formats: &[CameraFormat], wish: CaptureWish) -> CameraFormat {
        rank(formats.to_vec(), wish)[0]
    }

    #[test]
    fn raw_pictures_of_the_right_size_come_first() {
        let best = format(1280, 720, FrameFormat::YUYV, 30);
        let formats = [
            format(640, 480, FrameFormat::YUYV, 30),
            format(1280, 720, FrameFormat::MJPEG, 30),
            format(1920, 1080, FrameFormat::YUYV, 30),
            format(1280, 720, FrameFormat::RAWRGB, 30),
            best,
        ];
        assert_eq!(first(&formats, WISH), best);
    }

    #[test]
    fn jpeg_wins_where_raw_is_slow_as_on_usb_2() {
        let jpeg = format(1280, 720, FrameFormat::MJPEG, 30);
        assert_eq!(first(&[format(1280, 720, FrameFormat::YUYV, 10), jpeg], WISH), jpeg);
    }

    #[test]
    fn the_nearest_size_is_taken_where_the_right_one_is_missing() {
        let formats = [
            format(320, 180, FrameFormat::YUYV, 30),
            format(1920, 1080, FrameFormat::MJPEG, 30),
        ];
        assert_eq!(first(&formats, WISH), formats[1]);
        assert_eq!(
            first(
                &formats,
                CaptureWish {
                    width: 320,
                    height: 240,
                    fps: 30
                }
            ),
            formats[0]
        );
    }

    #[test]
    fn a_camera_with_nothing_usual_is_used_all_the_same() {
        let only = format(176, 144, FrameFormat::GRAY, 5);
        assert_eq!(first(&[only], WISH), only);
        assert!(rank(vec![format(0, 0, FrameFormat::YUYV, 0)], WISH).is_empty());
    }
}
