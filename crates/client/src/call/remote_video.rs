//! A received picture.
use std::path::PathBuf;
use std::time::Duration;

use confab_media::DeviceError;
use confab_transport::RemoteTrack;

use super::report::VideoFigures;
use super::subscribe::{Counts, Shared};
use crate::api::VideoKey;

pub(super) struct RemotePicture;
impl RemotePicture {
    pub(super) fn start(
        _: RemoteTrack,
        _: VideoKey,
        _: Option<Option<(u32, u32)>>,
        _: Option<PathBuf>,
        _: Shared,
    ) -> Result<Self, DeviceError> {
        Ok(Self)
    }
    pub(super) fn set_wish(&self, _: Option<(u32, u32)>) {}
    pub(super) fn counts(&self) -> Counts {
        Counts::default()
    }
    pub(super) fn figures(&self, _: Duration) -> VideoFigures {
        VideoFigures::default()
    }
    pub(super) fn close(self) {}
}
