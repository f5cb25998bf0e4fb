//! Data channels by label: ours, opened before the first offer, and the other side's.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::debug;
use webrtc::data_channel::{DataChannel, DataChannelEvent};

use crate::api::{ConnectionEvent, TransportError};
use crate::events::Events;

#[derive(Clone)]
struct Held {
    channel: Arc<dyn DataChannel>,
    ours: bool,
    open: watch::Receiver<bool>,
}

/// See the module's text.
#[derive(Default)]
pub(crate) struct DataChannels {
    held: Mutex<HashMap<String, Held>>,
}

impl DataChannels {
    /// Adds a channel; what is returned must be set when it opens. Ours is kept when both sides opened one.
    pub(crate) fn add(
        &self,
        label: &str,
        channel: Arc<dyn DataChannel>,
        ours: bool,
        open: bool,
    ) -> watch::Sender<bool> {
        let (opened, open) = watch::channel(open);
        let mut held = self.held.lock();
        if ours || held.get(label).is_none_or(|h| !h.ours) {
            held.insert(label.to_owned(), Held { channel, ours, open });
        }
        opened
    }

    /// Sends, once the channel is open and its buffer has room.
    pub(crate) async fn send(&self, label: &str, payload: Bytes) -> Result<(), TransportError> {
        let Some(mut held) = self.held.lock().get(label).cloned() else {
            return Err(TransportError::Unknown(format!("the data channel {label:?}")));
        };
        held.open
            .wait_for(|open| *open)
            .await
            .map_err(|_| TransportError::Closed)?;
        held.channel
            .send(BytesMut::from(payload))
            .await
            .map_err(|source| TransportError::webrtc("send data", source))
    }

    /// Forgets all channels.
    pub(crate) fn clear(&self) {
        self.held.lock().clear();
    }
}

/// Reads one channel until it closes.
pub(crate) async fn read(channel: Arc<dyn DataChannel>, label: String, opened: watch::Sender<bool>, events: Events) {
    while let Some(event) = channel.poll().await {
        match event {
            // Told once, although the library may tell it twice.
            DataChannelEvent::OnOpen if !opened.send_replace(true) => {
                events.tell(ConnectionEvent::DataOpen { label: label.clone() });
            }
            DataChannelEvent::OnMessage(message) => {
                let payload = message.data.freeze();
                if !events
                    .tell_data(ConnectionEvent::Data {
                        label: label.clone(),
                        payload,
                    })
                    .await
                {
                    break;
                }
            }
            DataChannelEvent::OnClose | DataChannelEvent::OnError => {
                debug!(label, "data channel closed");
                break;
            }
            _ => {}
        }
    }
}
