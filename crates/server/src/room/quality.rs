//! Who wants how much of which track: subscriptions, wishes, and what the sender is
//! told of them, so that layers which nobody watches are not encoded.

use std::time::Duration;

use confab_types::{ParticipantSid, TrackKind, TrackSid};
use confab_wire::livekit as lk;
use lk::signal_response::Message;
use tokio::time::Instant;
use tracing::debug;

use super::actor::{RoomActor, patiently};
use super::member::Subscribed;
use crate::engine::{Layer, TrackWish};

/// More is told at once, less after this: switching tabs back and forth costs no keyframes. Longer saves
/// fewer encodings, shorter makes more keyframes.
const LOWER_AFTER: Duration = Duration::from_secs(3);

impl RoomActor {
    /// Subscribes or unsubscribes.
    pub async fn set_subscriptions(&mut self, sid: &ParticipantSid, tracks: &[String], on: bool) {
        let known: Vec<TrackSid> = self
            .members
            .iter()
            .flat_map(|m| &m.tracks)
            .filter(|t| tracks.contains(&t.sid.to_string()))
            .map(|t| t.sid.clone())
            .collect();
        for track in known {
            let Some(member) = self.member_mut(sid) else { return };
            if on && !member.grants.can_subscribe {
                return;
            }
            let before = member.subscription(&track);
            if before.on == on {
                continue;
            }
            member.subscribed.insert(track.clone(), Subscribed { on, ..before });
            if let Err(e) = patiently(self.env.engine.subscribe(&self.room.sid, sid, &track, on)).await {
                debug!(participant = %sid, %track, error = %e, "subscription not changed");
            }
        }
        self.requalify_all();
    }

    pub async fn on_track_setting(&mut self, sid: &ParticipantSid, setting: &lk::UpdateTrackSettings) {
        let known: Vec<(TrackSid, TrackWish)> = self
            .members
            .iter()
            .flat_map(|m| &m.tracks)
            .filter(|t| setting.track_sids.contains(&t.sid.to_string()))
            .map(|t| (t.sid.clone(), wish(setting, &t.info)))
            .collect();
        for (track, wish) in known {
            let Some(member) = self.member_mut(sid) else { return };
            let before = member.subscription(&track);
            member.subscribed.insert(track.clone(), Subscribed { wish, ..before });
            self.env.engine.track_wish(&self.room.sid, sid, &track, wish).await;
        }
        self.requalify_all();
    }

    /// Looks again at what everyone wants of every video track.
    pub fn requalify_all(&mut self) {
        let now = Instant::now();
        let tracks: Vec<(ParticipantSid, TrackSid)> = self
            .members
            .iter()
            .flat_map(|m| {
                m.tracks
                    .iter()
                    .filter(|t| t.kind == TrackKind::Video && t.live)
                    .map(|t| (m.sid.clone(), t.sid.clone()))
            })
            .collect();
        for (owner, track) in tracks {
            let wanted = self.wanted(&owner, &track);
            let Some(found) = self.member_mut(&owner).and_then(|m| m.track_mut(track.as_str())) else {
                continue;
            };
            match found.wanted {
                Some(told) if wanted == told => found.lower_at = None,
                // It starts with everything on, so being told of less can wait.
                told if wanted < told.unwrap_or(Some(Layer::High)) => {
                    found.lower_at.get_or_insert(now + LOWER_AFTER);
                }
                _ => {
                    found.wanted = Some(wanted);
                    found.lower_at = None;
                    self.tell_wanted(&owner, &track, wanted);
                }
            }
        }
    }

    /// Tells senders of less, where it stayed less for long enough.
    pub fn lower_qualities(&mut self, now: Instant) {
        let due: Vec<(ParticipantSid, TrackSid)> = self
            .members
            .iter()
            .flat_map(|m| {
                m.tracks
                    .iter()
                    .filter(|t| t.lower_at.is_some_and(|at| at <= now))
                    .map(|t| (m.sid.clone(), t.sid.clone()))
            })
            .collect();
        for (owner, track) in due {
            let wanted = self.wanted(&owner, &track);
            if let Some(found) = self.member_mut(&owner).and_then(|m| m.track_mut(track.as_str())) {
                found.lower_at = None;
                found.wanted = Some(wanted);
            }
            self.tell_wanted(&owner, &track, wanted);
        }
    }

    /// The highest layer that anyone wants; `None`: nobody wants it.
    fn wanted(&self, owner: &ParticipantSid, track: &TrackSid) -> Option<Layer> {
        let others = self
            .members
            .iter()
            .filter(|m| m.sid != *owner && m.grants.can_subscribe);
        others
            .map(|m| m.subscription(track))
            .filter(|s| s.on && s.wish.enabled)
            .map(|s| s.wish.max_layer)
            .max()
    }

    fn tell_wanted(&self, owner: &ParticipantSid, track: &TrackSid, wanted: Option<Layer>) {
        debug!(%track, ?wanted, "what is wanted of a track");
        let quality = |quality: lk::VideoQuality, layer: Layer| lk::SubscribedQuality {
            quality: quality as i32,
            enabled: wanted.is_some_and(|w| layer <= w),
        };
        let qualities = vec![
            quality(lk::VideoQuality::Low, Layer::Low),
            quality(lk::VideoQuality::Medium, Layer::Mid),
            quality(lk::VideoQuality::High, Layer::High),
        ];
        let update = lk::SubscribedQualityUpdate {
            track_sid: track.to_string(),
            subscribed_codecs: vec![lk::SubscribedCodec {
                codec: "vp8".into(),
                qualities: qualities.clone(),
            }],
            subscribed_qualities: qualities,
        };
        self.tell(owner, Message::SubscribedQualityUpdate(update));
    }
}

/// What a setting means for a track: by shown size where given, else by quality.
fn wish(setting: &lk::UpdateTrackSettings, track: &lk::TrackInfo) -> TrackWish {
    let by_quality = match lk::VideoQuality::try_from(setting.quality) {
        Ok(lk::VideoQuality::Low) => Layer::Low,
        Ok(lk::VideoQuality::Medium) => Layer::Mid,
        _ => Layer::High,
    };
    let max_layer = if setting.width > 0 {
        by_size(setting.width, setting.height, track)
    } else {
        by_quality
    };
    let off = setting.disabled || setting.quality == lk::VideoQuality::Off as i32;
    TrackWish {
        enabled: !off,
        max_layer,
    }
}

/// The smallest layer that is at least as large as shown.
fn by_size(width: u32, height: u32, track: &lk::TrackInfo) -> Layer {
    let mut layers: Vec<&lk::VideoLayer> = track.layers.iter().collect();
    layers.sort_by_key(|l| l.quality);
    // A layer one and a half times smaller than shown still looks good.
    let enough = |l: &&lk::VideoLayer| {
        l.width.saturating_add(l.width / 2) >= width && l.height.saturating_add(l.height / 2) >= height
    };
    match layers
        .into_iter()
        .find(enough)
        .map(|l| lk::VideoQuality::try_from(l.quality))
    {
        Some(Ok(lk::VideoQuality::Low)) => Layer::Low,
        Some(Ok(lk::VideoQuality::Medium)) => Layer::Mid,
        _ => Layer::High,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_layers() -> lk::TrackInfo {
        let layer = |quality: lk::VideoQuality, width, height| lk::VideoLayer {
            quality: quality as i32,
            width,
            height,
            ..lk::VideoLayer::default()
        };
        lk::TrackInfo {
            layers: vec![
                layer(lk::VideoQuality::Low, 320, 180),
                layer(lk::VideoQuality::Medium, 640, 360),
                layer(lk::VideoQuality::High, 1280, 720),
            ],
            ..lk::TrackInfo::default()
        }
    }

    #[test]
    fn a_small_tile_gets_a_small_layer() {
        let track = three_layers();
        let at = |width, height| {
            wish(
                &lk::UpdateTrackSettings {
                    width,
                    height,
                    ..Default::default()
                },
                &track,
            )
            .max_layer
        };
        assert_eq!(at(300, 170), Layer::Low);
        assert_eq!(at(640, 360), Layer::Mid);
        assert_eq!(at(1280, 720), Layer::High);
        assert_eq!(at(4000, 3000), Layer::High);
    }

    #[test]
    fn a_hidden_tile_gets_nothing() {
        let setting = lk::UpdateTrackSettings {
            disabled: true,
            ..Default::default()
        };
        assert!(!wish(&setting, &three_layers()).enabled);
    }

    #[test]
    fn absurd_sizes_do_no_harm() {
        let setting = lk::UpdateTrackSettings {
            width: u32::MAX,
            height: u32::MAX,
            ..Default::default()
        };
        let mut track = three_layers();
        track.layers[0].width = u32::MAX;
        assert!(wish(&setting, &track).enabled);
    }
}
