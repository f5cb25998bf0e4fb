//! Pictures: sources, scaling, VP8, simulcast, frame buffers and receiving. Knows
//! nothing of RTP sessions, rooms or windows: frames and RTP payloads in, frames out.

pub mod convert;
pub mod depacketize;
pub mod encoder;
pub mod frame_buffer;
mod load;
pub mod pattern;
mod pause;
mod planes;
pub mod receiver;
pub mod scale;
mod simulcast;
pub mod slot;
pub mod source;
pub mod timecode;
pub mod vp8;
pub mod y4m;

#[cfg(test)]
mod testing;

pub use encoder::{EncoderStats, LayerSpec, SimulcastConfig, SimulcastEncoder};
pub use receiver::{DecodedFrame, ReceiverStats, VideoReceiver};
pub use slot::{FrameSlot, SlotWait};
pub use source::{CaptureWish, DeviceEvent, DeviceEvents, VideoCapture, VideoSource, open};
