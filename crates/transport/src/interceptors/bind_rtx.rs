//! Makes a link of the library treat RTX streams as streams of their own, so that
//! retransmissions carry TWCC numbers and are counted by congestion control; and keeps
//! from it the streams whose numbers the other side did not ask for.

use std::sync::Arc;
use std::time::Instant;

use rtc::interceptor::{Interceptor, StreamInfo, TaggedPacket};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;

use crate::wire::Wire;

/// Binds the RTX stream beside each local stream.
pub(crate) struct BindRtx<I>(I, Arc<Wire>);

impl<I: Interceptor> BindRtx<I> {
    /// Around a link that deals in transport-wide numbers.
    pub(crate) fn new(link: I, wire: Arc<Wire>) -> Self {
        Self(link, wire)
    }
}

fn rtx_of(info: &StreamInfo) -> Option<StreamInfo> {
    let mut rtx = info.clone();
    rtx.ssrc = info.ssrc_rtx?;
    rtx.payload_type = info.payload_type_rtx?;
    rtx.ssrc_rtx = None;
    rtx.payload_type_rtx = None;
    Some(rtx)
}

impl<I: Interceptor> Protocol<TaggedPacket, TaggedPacket, ()> for BindRtx<I> {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.0.handle_read(packet)
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.0.poll_read()
    }

    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.0.handle_write(packet)
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.0.poll_write()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.0.handle_timeout(now)
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.0.poll_timeout()
    }

    fn close(&mut self) -> Result<(), Error> {
        self.0.close()
    }
}

impl<I: Interceptor> Interceptor for BindRtx<I> {
    fn bind_local_stream(&mut self, info: &StreamInfo) {
        if !self.1.is_numbered(info.ssrc) {
            return;
        }
        self.0.bind_local_stream(info);
        if let Some(rtx) = rtx_of(info) {
            self.0.bind_local_stream(&rtx);
        }
    }

    fn unbind_local_stream(&mut self, info: &StreamInfo) {
        self.0.unbind_local_stream(info);
        if let Some(rtx) = rtx_of(info) {
            self.0.unbind_local_stream(&rtx);
        }
    }

    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        self.0.bind_remote_stream(info);
    }

    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.0.unbind_remote_stream(info);
    }
}
