//! The packets' way: from a publisher's m-line to everyone subscribed.

use confab_types::{Bitrate, TrackKind};
use str0m::bwe::BweKind;
use str0m::media::{Frequency, Mid, Rid};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite, Vp8Descriptor, Vp8Patch};

use crate::Event;
use crate::connection::{Connection, ConnectionId, Stream};
use crate::participant::Participant;
use crate::rewrite::{Numbers, Rewritten};
use crate::room::Room;

/// What was learned of a packet once, for all who get it.
struct Parsed {
    numbers: Numbers,
    descriptor: Option<Vp8Descriptor>,
    starts_keyframe: bool,
    mid: Mid,
    rid: Option<Rid>,
}

impl Room {
    /// A media packet came in on a publisher connection.
    pub(crate) fn forward(&mut self, from: ConnectionId, packet: &RtpPacket) {
        let Some(connection) = self.connections.get_mut(&from) else {
            return;
        };
        let parsed = parse(connection, packet);
        let sid = parsed.as_ref().and_then(|p| connection.track_on(p.mid)).cloned();
        let (Some(parsed), Some(sid)) = (parsed, sid) else {
            self.refused += 1;
            return;
        };
        let Some(track) = self.tracks.get_mut(&sid) else {
            self.refused += 1;
            return;
        };
        let layer = parsed.numbers.layer;
        let is_new_layer = track.count(self.now, layer, parsed.rid, packet.payload.len(), packet.header.marker);
        if parsed.starts_keyframe {
            track.layers[layer.index()].keyframes.arrived();
        }
        if !track.live {
            track.live = true;
            let mime = mime(connection, packet);
            let participant = track.owner.clone();
            self.emit(Event::TrackLive {
                participant,
                track: sid.clone(),
                mime,
                mid: parsed.mid.to_string(),
            });
            self.schedule_tick();
        }
        if is_new_layer {
            self.allocate_all();
        }
        self.fan_out(&sid, packet, &parsed);
    }

    fn fan_out(&mut self, sid: &confab_types::TrackSid, packet: &RtpPacket, parsed: &Parsed) {
        let Self {
            tracks,
            connections,
            participants,
            dirty,
            now,
            ..
        } = self;
        let Some(track) = tracks.get_mut(sid) else { return };
        if track.announcement.muted {
            return;
        }
        let is_video = track.announcement.kind == TrackKind::Video;
        if let (false, Some(level)) = (is_video, packet.header.ext_vals.audio_level) {
            track.levels.add(level);
        }
        for downlink in &mut track.downlinks {
            let Some(numbers) = downlink.take(&parsed.numbers, parsed.starts_keyframe) else {
                continue;
            };
            let Some(connection) = connections.get_mut(&downlink.connection) else {
                continue;
            };
            let mut direct = connection.rtc.direct_api();
            let Some(stream) = direct.stream_tx_by_mid(downlink.mid, None) else {
                continue;
            };
            let mut write = RtpWrite::new(
                downlink.pt,
                numbers.seq.into(),
                numbers.time,
                parsed.numbers.captured,
                packet.payload.clone(),
            )
            .marker(packet.header.marker)
            .nackable(is_video)
            .ext_vals(forwarded_extensions(&packet.header.ext_vals));
            if let Some(patch) = parsed.descriptor.as_ref().and_then(|d| patch(d, &numbers)) {
                write = write.vp8_patch(patch);
            }
            stream.write_rtp(write);
            track.packets_out += 1;
            if let Some(participant) = participants.get_mut(&downlink.subscriber) {
                participant.sent.add(*now, packet.payload.len());
            }
            if !connection.dirty {
                connection.dirty = true;
                dirty.push(downlink.connection);
            }
        }
    }

    /// A subscriber cannot decode: ask the sender for a keyframe of the layer that it gets.
    pub(crate) fn on_keyframe_request(&mut self, id: ConnectionId, mid: Mid) {
        let Some(who) = self.connections.get(&id).map(|c| c.owner.clone()) else {
            return;
        };
        let Some(sid) = self.participants.get(&who).and_then(|p| p.track_on(mid)) else {
            return;
        };
        let Some(track) = self.tracks.get_mut(sid) else { return };
        if track.announcement.kind != TrackKind::Video {
            return;
        }
        let Some(downlink) = track.downlink_to(&who).filter(|d| d.is_on()) else {
            return;
        };
        if let Some(layer) = downlink.rewriter.layer().or(downlink.target) {
            track.want_keyframe(layer);
            self.keyframes_wanted = true;
        }
    }

    /// A new bandwidth estimate of a subscriber's path.
    pub(crate) fn on_estimate(&mut self, id: ConnectionId, estimate: &BweKind) {
        if let (BweKind::Twcc { estimate, .. }, Some(participant)) = (estimate, self.owner_of(id)) {
            participant.allocator.set_estimate(Bitrate::bps(estimate.as_u64()));
        }
    }

    /// What part of its packets a subscriber lost in the last second, by transport feedback.
    pub(crate) fn on_transport_loss(&mut self, id: ConnectionId, loss: Option<f32>) {
        if let Some(participant) = self.owner_of(id) {
            participant.allocator.set_transport_loss(loss.unwrap_or(0.0).into());
        }
    }

    /// What part of a picture's packets a subscriber lost, by its last reports.
    pub(crate) fn on_reported_loss(&mut self, id: ConnectionId, mid: Mid, loss: Option<f32>) {
        let Some(participant) = self.owner_of(id) else { return };
        let is_video = |p: &Participant| {
            p.lines
                .values()
                .any(|l| l.mid == Some(mid) && l.kind == TrackKind::Video)
        };
        if is_video(participant) {
            participant.allocator.set_reported_loss(loss.unwrap_or(0.0).into());
        }
    }

    fn owner_of(&mut self, id: ConnectionId) -> Option<&mut Participant> {
        let owner = &self.connections.get(&id)?.owner;
        self.participants.get_mut(owner)
    }
}

fn parse(connection: &mut Connection, packet: &RtpPacket) -> Option<Parsed> {
    let Stream { mid, rid, layer } = connection.stream(packet.header.ssrc)?;
    let pt = packet.header.payload_type;
    let params = connection.rtc.codec_config().params().iter().find(|p| p.pt() == pt)?;
    let is_vp8 = params.spec().codec == str0m::format::Codec::Vp8;
    let clock = clock_rate(params.spec().clock_rate);
    let descriptor = if is_vp8 {
        Vp8Descriptor::parse(&packet.payload).ok()
    } else {
        None
    };
    let numbers = Numbers {
        layer,
        seq: *packet.seq_no,
        time: packet.header.timestamp,
        captured: connection.clock.captured(packet, clock),
        clock,
        picture_id: descriptor.and_then(|d| d.picture_id()),
        tl0: descriptor.and_then(|d| d.tl0_pic_idx()),
    };
    let starts_keyframe = descriptor.is_some_and(|d| d.starts_keyframe(&packet.payload));
    Some(Parsed {
        numbers,
        descriptor,
        starts_keyframe,
        mid,
        rid,
    })
}

fn clock_rate(frequency: Frequency) -> u32 {
    frequency.get()
}

fn mime(connection: &Connection, packet: &RtpPacket) -> String {
    let pt = packet.header.payload_type;
    let codec = connection
        .rtc
        .codec_config()
        .params()
        .iter()
        .find(|p| p.pt() == pt)
        .map(|p| p.spec().codec);
    match codec {
        Some(str0m::format::Codec::Vp8) => "video/VP8".to_owned(),
        _ => "audio/opus".to_owned(),
    }
}

/// What a subscriber may learn from the header extensions; the rest belongs to one hop.
fn forwarded_extensions(incoming: &ExtensionValues) -> ExtensionValues {
    ExtensionValues {
        audio_level: incoming.audio_level,
        voice_activity: incoming.voice_activity,
        video_orientation: incoming.video_orientation,
        ..Default::default()
    }
}

/// The change of a VP8 payload descriptor; none if it has nothing to change.
fn patch(descriptor: &Vp8Descriptor, numbers: &Rewritten) -> Option<Vp8Patch> {
    let picture_id = descriptor.picture_id().and(numbers.picture_id);
    let tl0 = descriptor.tl0_pic_idx().and(numbers.tl0);
    if picture_id.is_none() && tl0.is_none() {
        return None;
    }
    let build = |mask: u16| {
        let mut builder = descriptor.patch();
        if let Some(id) = picture_id {
            builder = builder.picture_id(id & mask);
        }
        if let Some(tl0) = tl0 {
            builder = builder.tl0_pic_idx(tl0);
        }
        builder.build().ok()
    };
    // A 7-bit id stays one: the descriptor's length must not change.
    build(0x7fff).or_else(|| build(0x7f))
}
