//! Writes received pictures to a y4m file on a thread of its own: a slow disk loses pictures
//! of the recording, never of the call.

use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};

use confab_media::I420;
use confab_media::video::y4m::{Y4mError, Y4mWriter};

/// Pictures that may wait for the disk: a second.
const QUEUE: usize = 30;
/// Written into the header; pictures are as many as came.
const FPS: u32 = 30;

/// A recording in progress. Finished when dropped, by its thread.
pub(super) struct VideoRecorder(SyncSender<I420>);

impl VideoRecorder {
    /// Creates the file; an older one is replaced.
    pub(super) fn create(path: PathBuf) -> Result<Self, Y4mError> {
        let shown = path.display().to_string();
        let mut writer = Y4mWriter::create(&path, FPS).inspect_err(|e| tracing::warn!(shown, "not recorded: {e}"))?;
        let (sender, pictures) = sync_channel::<I420>(QUEUE);
        std::thread::spawn(move || {
            for picture in pictures {
                if let Err(e) = writer.write(&picture) {
                    tracing::warn!(shown, "the recording ended early: {e}");
                    return;
                }
            }
            if let Err(e) = writer.finish() {
                tracing::warn!(shown, "the recording was not finished: {e}");
            }
        });
        Ok(Self(sender))
    }

    /// Adds a picture, unless the disk is a second behind.
    pub(super) fn write(&self, picture: &I420) {
        let _ = self.0.try_send(picture.clone());
    }
}
