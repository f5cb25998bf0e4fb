//! The newest picture of every tile, and what the page shows of it.

use std::collections::HashMap;
use std::sync::Arc;

use confab_client::api::{VideoKey, VideoSink};
use confab_media::I420;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// What the page shows of a tile: device pixels, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wish {
    /// Across.
    pub width: u32,
    /// Down.
    pub height: u32,
}

#[derive(Default)]
struct Tile {
    key: u16,
    newest: Option<I420>,
    /// Not handed over yet.
    fresh: bool,
    size: (u32, u32),
    wish: Wish,
}

#[derive(Default)]
struct Tiles {
    by_video: HashMap<VideoKey, Tile>,
    next_key: u16,
}

/// What is shown, in device pixels.
pub type Shown = Vec<(VideoKey, (u32, u32))>;

/// Shared by decoding threads, the socket and the shell. Cheap to clone.
#[derive(Clone)]
pub struct FrameHub {
    tiles: Arc<Mutex<Tiles>>,
    fresh: Arc<Notify>,
    wishes: Arc<watch::Sender<Shown>>,
}

impl Default for FrameHub {
    fn default() -> Self {
        Self {
            tiles: Arc::default(),
            fresh: Arc::default(),
            wishes: Arc::new(watch::Sender::new(Vec::new())),
        }
    }
}

impl FrameHub {
    /// The number of a picture in frame messages, made at first use. Numbers are not used again while the app runs,
    /// so that a late frame never lands on a newcomer's tile.
    pub fn key_of(&self, video: &VideoKey) -> u16 {
        let mut tiles = self.tiles.lock();
        if let Some(tile) = tiles.by_video.get(video) {
            return tile.key;
        }
        tiles.next_key = tiles.next_key.wrapping_add(1);
        let key = tiles.next_key;
        tiles.by_video.insert(video.clone(), Tile { key, ..Tile::default() });
        key
    }

    /// Pixels of the newest picture as it came; 0 before the first.
    pub fn size_of(&self, video: &VideoKey) -> (u32, u32) {
        self.tiles
            .lock()
            .by_video
            .get(video)
            .map(|t| t.size)
            .unwrap_or_default()
    }

    /// What the page shows now. Pictures it does not name are not shown.
    pub fn set_wishes(&self, wishes: &[(u16, Wish)]) {
        let mut tiles = self.tiles.lock();
        let mut shown = Vec::new();
        for (video, tile) in &mut tiles.by_video {
            let wish = wishes
                .iter()
                .find(|(key, _)| *key == tile.key)
                .map(|(_, w)| *w)
                .unwrap_or_default();
            if tile.wish != wish {
                tile.wish = wish;
                // Shown anew: the last picture is drawn at once.
                tile.fresh = tile.newest.is_some();
            }
            if wish.width > 0 && wish.height > 0 {
                shown.push((video.clone(), (wish.width, wish.height)));
            }
        }
        drop(tiles);
        self.wishes.send_replace(shown);
        self.fresh.notify_one();
    }

    /// What is shown, for the call to decode and for the server to send.
    pub fn wishes(&self) -> watch::Receiver<Shown> {
        self.wishes.subscribe()
    }

    /// Forgets every picture (a call ended).
    pub fn clear(&self) {
        self.tiles.lock().by_video.clear();
        self.wishes.send_replace(Vec::new());
    }

    /// Takes the pictures that changed and are shown.
    pub(super) fn take_fresh(&self) -> Vec<(u16, I420)> {
        let mut tiles = self.tiles.lock();
        tiles
            .by_video
            .values_mut()
            .filter(|t| t.fresh && t.wish.width > 0)
            .filter_map(|t| {
                t.fresh = false;
                t.newest.clone().map(|f| (t.key, f))
            })
            .collect()
    }

    /// The changed pictures as a message, for a page without the socket.
    pub fn poll(&self) -> Vec<u8> {
        super::message::encode(0, &self.take_fresh())
    }

    /// Resolves when a picture came since the last call.
    pub(super) async fn changed(&self) {
        self.fresh.notified().await;
    }
}

impl VideoSink for FrameHub {
    fn frame(&self, video: &VideoKey, frame: I420) {
        self.key_of(video);
        if let Some(tile) = self.tiles.lock().by_video.get_mut(video) {
            tile.size = (frame.width, frame.height);
            tile.newest = Some(frame);
            tile.fresh = true;
        }
        self.fresh.notify_one();
    }

    fn ended(&self, video: &VideoKey) {
        self.tiles.lock().by_video.remove(video);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_types::TrackSource;

    fn frame(value: u8) -> I420 {
        I420 {
            width: 2,
            height: 2,
            data: vec![value; 6].into(),
            time: std::time::Instant::now(),
        }
    }

    #[test]
    fn only_the_newest_picture_of_a_shown_tile_is_handed_over() {
        let hub = FrameHub::default();
        let own = VideoKey::Own(TrackSource::Camera);
        hub.frame(&own, frame(1));
        assert!(hub.take_fresh().is_empty(), "not shown yet");
        hub.set_wishes(&[(hub.key_of(&own), Wish { width: 10, height: 10 })]);
        hub.frame(&own, frame(2));
        let taken = hub.take_fresh();
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].1.data[0], 2);
        assert!(hub.take_fresh().is_empty(), "nothing new since");
    }

    #[test]
    fn a_key_is_not_given_again_after_its_track_ended() {
        let hub = FrameHub::default();
        let own = VideoKey::Own(TrackSource::Camera);
        let first = hub.key_of(&own);
        hub.ended(&own);
        assert_ne!(hub.key_of(&own), first);
    }
}
