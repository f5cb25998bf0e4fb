//! One own track towards the server: wanted, allowed, asked for, published. And the outlet
//! through which encoders hand frames to whatever connection there is at the moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use confab_transport::{EncodedFrame, TrackSender};
use confab_types::{TrackSid, TrackSource};
use parking_lot::Mutex;
use tokio::sync::mpsc::error::TrySendError;

use crate::api::OwnTrack;

/// LiveKit's clients give up on an AddTrack after this long.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an encoder's frames go. Outlives connections: between two of them frames are thrown away.
#[derive(Default)]
pub struct Outlet {
    to: Mutex<Option<TrackSender>>,
    frames: AtomicU64,
    dropped: AtomicU64,
}

impl Outlet {
    /// Sends a frame, or drops it: without a connection, or with one that is behind.
    pub fn send(&self, frame: EncodedFrame) {
        let to = self.to.lock();
        let Some(sender) = to.as_ref() else { return };
        self.frames.fetch_add(1, Ordering::Relaxed);
        if let Err(TrySendError::Full(_)) = sender.frames.try_send(frame) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Connects it to a track of a peer connection, or to nothing.
    pub fn connect(&self, sender: Option<TrackSender>) {
        *self.to.lock() = sender;
    }

    /// Keyframe requests of the present connection.
    pub fn keyframe_requests(&self) -> u64 {
        self.to
            .lock()
            .as_ref()
            .map_or(0, |s| s.keyframe_requests.borrow().count)
    }

    /// Frames handed over, and those of them that were dropped.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.frames.load(Ordering::Relaxed),
            self.dropped.load(Ordering::Relaxed),
        )
    }
}

/// How far publishing has come on the present join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Not at all.
    Not,
    /// AddTrack is sent.
    Asked(Instant),
    /// The server has it.
    Published(TrackSid),
}

/// One own track.
pub struct Publication {
    /// What it is.
    pub source: TrackSource,
    /// The client's id of it, new for each publication.
    pub cid: String,
    /// The person wants it on.
    pub wanted: bool,
    /// The grants allow it; `None` until known.
    pub allowed: Option<bool>,
    /// On the present join.
    pub stage: Stage,
    /// The server believes that it is muted.
    pub muted: bool,
    /// Why it is not on.
    pub problem: Option<String>,
}

impl Publication {
    /// Not published yet.
    pub fn new(source: TrackSource, wanted: bool) -> Self {
        Self {
            source,
            cid: new_cid(),
            wanted,
            allowed: None,
            stage: Stage::Not,
            muted: false,
            problem: None,
        }
    }

    /// Its sid, once published.
    pub fn sid(&self) -> Option<&TrackSid> {
        if let Stage::Published(sid) = &self.stage {
            Some(sid)
        } else {
            None
        }
    }

    /// The device should be open.
    pub fn device_wanted(&self) -> bool {
        self.wanted && self.allowed == Some(true)
    }

    /// It is gone from the server; the next publication is another track.
    pub fn reset(&mut self) {
        self.stage = Stage::Not;
        self.muted = false;
        self.cid = new_cid();
    }

    /// How it looks to the person.
    pub fn view(&self, device_open: bool) -> OwnTrack {
        let on = self.wanted && device_open && self.sid().is_some();
        let busy = self.wanted && !on && self.problem.is_none() && self.allowed != Some(false);
        OwnTrack {
            on,
            busy,
            problem: self.problem.clone(),
        }
    }
}

fn new_cid() -> String {
    // LiveKit's SDKs use the MediaStreamTrack's id, a UUID.
    uuid::Uuid::new_v4().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use confab_transport::KeyframeRequest;
    use tokio::sync::{mpsc, watch};

    fn frame() -> EncodedFrame {
        EncodedFrame {
            layer: 0,
            captured: Instant::now(),
            keyframe: false,
            temporal: None,
            audio_level: None,
            data: bytes::Bytes::new(),
        }
    }

    #[test]
    fn an_encoder_never_waits_for_a_connection_that_is_behind_or_absent() {
        let outlet = Outlet::default();
        outlet.send(frame());
        assert_eq!(outlet.counts(), (0, 0));
        let (frames, _queue) = mpsc::channel(2);
        let (_ask, keyframe_requests) = watch::channel(KeyframeRequest::default());
        outlet.connect(Some(TrackSender {
            frames,
            keyframe_requests,
            cid: "c".to_owned(),
        }));
        for _ in 0..5 {
            outlet.send(frame());
        }
        assert_eq!(outlet.counts(), (5, 3));
    }

    #[test]
    fn a_subscriber_sees_no_busy_camera() {
        let mut publication = Publication::new(TrackSource::Camera, true);
        assert!(publication.view(false).busy);
        publication.allowed = Some(false);
        assert!(!publication.view(false).busy && !publication.device_wanted());
    }
}
