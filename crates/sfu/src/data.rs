//! The data channels of one connection, with a bounded queue for what SCTP
//! cannot take yet.

use std::collections::VecDeque;

use str0m::Rtc;
use str0m::channel::ChannelId;
use tracing::debug;

use crate::DataKind;

/// Bytes kept for a reliable channel that cannot send. Past it the receiver is too slow to be served, and new messages
/// for it are dropped.
const MAX_RELIABLE_BYTES: usize = 4 * 1024 * 1024;

/// Bytes kept for a lossy channel. Old news is worth little, so little is kept, and the oldest goes first.
const MAX_LOSSY_BYTES: usize = 128 * 1024;

/// Once this few bytes are buffered in SCTP the queue is tried again.
const LOW_WATER: usize = 32 * 1024;

#[derive(Debug, Default)]
struct Channel {
    id: Option<ChannelId>,
    queue: VecDeque<Vec<u8>>,
    queued: usize,
}

/// The channels of one connection.
#[derive(Debug, Default)]
pub(crate) struct DataChannels {
    reliable: Channel,
    lossy: Channel,
    /// Every open channel, of the client's making too.
    open: Vec<(ChannelId, Option<DataKind>)>,
}

impl DataChannels {
    /// A channel opened, by whichever side.
    pub fn opened(&mut self, rtc: &mut Rtc, id: ChannelId, label: &str) {
        let kind = DataKind::from_label(label);
        self.open.push((id, kind));
        let Some(kind) = kind else {
            debug!(label, "unknown data channel opened");
            return;
        };
        self.channel(kind).id = Some(id);
        if let Some(mut channel) = rtc.channel(id) {
            channel.set_buffered_amount_low_threshold(LOW_WATER);
        }
        self.flush(rtc);
    }

    /// A channel closed.
    pub fn closed(&mut self, id: ChannelId) {
        self.open.retain(|(open, _)| *open != id);
        for kind in [DataKind::Reliable, DataKind::Lossy] {
            let channel = self.channel(kind);
            if channel.id == Some(id) {
                channel.id = None;
            }
        }
    }

    /// The kind of a channel that data arrived on.
    pub fn kind_of(&self, id: ChannelId) -> Option<DataKind> {
        self.open
            .iter()
            .find(|(open, _)| *open == id)
            .and_then(|(_, kind)| *kind)
    }

    /// Sends a message, now or when there is room. False if it had to be dropped.
    pub fn send(&mut self, rtc: &mut Rtc, kind: DataKind, payload: Vec<u8>) -> bool {
        let channel = self.channel(kind);
        if channel.queued + payload.len() > MAX_RELIABLE_BYTES && kind == DataKind::Reliable {
            return false;
        }
        channel.queued += payload.len();
        channel.queue.push_back(payload);
        let mut kept = true;
        while kind == DataKind::Lossy && channel.queued > MAX_LOSSY_BYTES {
            let Some(oldest) = channel.queue.pop_front() else { break };
            channel.queued -= oldest.len();
            kept = false;
        }
        self.flush(rtc);
        kept
    }

    /// Tries the queues again.
    pub fn flush(&mut self, rtc: &mut Rtc) {
        for channel in [&mut self.reliable, &mut self.lossy] {
            let Some(mut open) = channel.id.and_then(|id| rtc.channel(id)) else {
                continue;
            };
            while let Some(next) = channel.queue.front() {
                match open.write(true, next) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => debug!(%error, "a data message was dropped"),
                }
                channel.queued -= next.len();
                channel.queue.pop_front();
            }
        }
    }

    fn channel(&mut self, kind: DataKind) -> &mut Channel {
        match kind {
            DataKind::Reliable => &mut self.reliable,
            DataKind::Lossy => &mut self.lossy,
        }
    }
}
