//! The own camera.
use std::sync::Arc;

use confab_media::{DeviceError, VideoSourceSpec};
use confab_transport::{LayerConfig, TrackSender};
use confab_types::Bitrate;
use confab_wire::livekit as lk;
use tokio::sync::{mpsc, watch};

use super::actor::Note;
use super::publication::Outlet;
use crate::api::JoinOptions;

pub(super) struct CameraOpened;
pub(super) struct OwnVideo {
    pub(super) outlet: Arc<Outlet>,
}
impl OwnVideo {
    pub(super) fn new(_: &JoinOptions, _: mpsc::Sender<Note>) -> Self {
        Self { outlet: Arc::default() }
    }
    pub(super) fn exists(&self) -> bool {
        false
    }
    pub(super) fn is_open(&self) -> bool {
        false
    }
    pub(super) fn open(&mut self) {}
    pub(super) fn close(&mut self) {}
    pub(super) fn disconnect(&mut self) {}
    pub(super) fn size(&self) -> (u32, u32) {
        (0, 0)
    }
    pub(super) fn layers(&self) -> Vec<lk::VideoLayer> {
        vec![]
    }
    pub(super) fn layer_configs(&self) -> Vec<LayerConfig> {
        vec![]
    }
    pub(super) fn connect(&mut self, _: TrackSender, _: watch::Receiver<Bitrate>) {}
    pub(super) fn set_source(&mut self, _: VideoSourceSpec) {}
    pub(super) fn show(&mut self, _: Option<(u32, u32)>) {}
    pub(super) fn qualities(&mut self, _: &lk::SubscribedQualityUpdate) {}
    pub(super) fn opened(&mut self, _: u64, _: CameraOpened) -> bool {
        false
    }
    pub(super) fn failed(&mut self, _: u64) -> bool {
        false
    }
}
