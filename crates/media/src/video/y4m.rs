//! y4m files: read as an endless source, written as a recording. 4:2:0 in 8 bits only.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use thiserror::Error;

use crate::video::planes;
use crate::video::vp8::MAX_PIXELS;
use crate::{DeviceError, I420};

/// A header or frame line longer than this is not y4m.
const MAX_LINE: u64 = 512;

/// Why a file is not usable.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Y4mError {
    /// The system's reason.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Not a y4m file.
    #[error("it is not a y4m file")]
    NotY4m,
    /// Another layout than 4:2:0 in 8 bits.
    #[error("its colour format {0} cannot be read; convert it to yuv420p")]
    Format(String),
    /// Zero, odd or too large.
    #[error("its size {0}x{1} cannot be used; width and height must be even")]
    Size(u32, u32),
    /// No picture in it.
    #[error("it has no pictures")]
    Empty,
}

/// Reads pictures, starting over at the end.
pub struct Y4mReader {
    file: BufReader<File>,
    /// Where the first picture begins.
    first: u64,
    width: u32,
    height: u32,
    rate: (u32, u32),
}

impl Y4mReader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> Result<Self, Y4mError> {
        let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
        let line = read_line(&mut file)?.ok_or(Y4mError::NotY4m)?;
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err(Y4mError::NotY4m);
        }
        let (mut width, mut height, mut rate) = (0u32, 0u32, (30, 1));
        for word in words {
            let (key, value) = word.split_at_checked(1).ok_or(Y4mError::NotY4m)?;
            match key {
                "W" => width = value.parse().map_err(|_| Y4mError::NotY4m)?,
                "H" => height = value.parse().map_err(|_| Y4mError::NotY4m)?,
                "F" => rate = parse_rate(value).ok_or(Y4mError::NotY4m)?,
                "C" if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                    return Err(Y4mError::Format(value.to_owned()));
                }
                _ => {}
            }
        }
        let sane = width >= 2 && height >= 2 && width % 2 == 0 && height % 2 == 0;
        if !sane || width.checked_mul(height).is_none_or(|pixels| pixels > MAX_PIXELS) {
            return Err(Y4mError::Size(width, height));
        }
        let first = file.stream_position()?;
        Ok(Self {
            file,
            first,
            width,
            height,
            rate,
        })
    }

    /// Width and height.
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Frames per second.
    pub fn fps(&self) -> f64 {
        f64::from(self.rate.0) / f64::from(self.rate.1)
    }

    /// The next picture, the first again after the last.
    pub fn next_frame(&mut self, time: Instant) -> Result<I420, Y4mError> {
        for _ in 0..2 {
            if let Some(frame) = self.read_frame(time)? {
                return Ok(frame);
            }
            self.file.seek(SeekFrom::Start(self.first))?;
        }
        Err(Y4mError::Empty)
    }

    /// `None` at the end, also where the last picture is cut short.
    fn read_frame(&mut self, time: Instant) -> Result<Option<I420>, Y4mError> {
        let Some(line) = read_line(&mut self.file)? else {
            return Ok(None);
        };
        if !line.starts_with("FRAME") {
            return Err(Y4mError::NotY4m);
        }
        let mut data = planes::blank(self.width, self.height);
        match self
            .file
            .read_exact(Arc::get_mut(&mut data).expect("fresh bytes are not shared"))
        {
            Ok(()) => Ok(Some(I420 {
                width: self.width,
                height: self.height,
                data,
                time,
            })),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse_rate(text: &str) -> Option<(u32, u32)> {
    let (numerator, denominator) = text.split_once(':')?;
    let rate = (numerator.parse().ok()?, denominator.parse().ok()?);
    (rate.0 > 0 && rate.1 > 0 && rate.0 / rate.1 <= 240).then_some(rate)
}

fn read_line(file: &mut BufReader<File>) -> Result<Option<String>, Y4mError> {
    let mut line = Vec::new();
    file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.pop() != Some(b'\n') {
        return Err(Y4mError::NotY4m);
    }
    String::from_utf8(line).map(Some).map_err(|_| Y4mError::NotY4m)
}

/// An error for people, with the file's name.
pub(crate) fn device_error(path: &Path, error: &Y4mError) -> DeviceError {
    DeviceError::File {
        path: path.display().to_string(),
        reason: error.to_string(),
    }
}

/// Writes pictures of one size; pictures of another size are scaled to it.
pub struct Y4mWriter {
    file: BufWriter<File>,
    path: PathBuf,
    size: Option<(u32, u32)>,
    fps: u32,
}

impl Y4mWriter {
    /// Creates a file; the first picture decides its size.
    pub fn create(path: &Path, fps: u32) -> Result<Self, Y4mError> {
        let file = BufWriter::with_capacity(1 << 18, File::create(path)?);
        Ok(Self {
            file,
            path: path.to_owned(),
            size: None,
            fps: fps.max(1),
        })
    }

    /// Where it writes.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one picture.
    pub fn write(&mut self, picture: &I420) -> Result<(), Y4mError> {
        let (width, height) = match self.size {
            Some(size) => size,
            None => {
                writeln!(
                    self.file,
                    "YUV4MPEG2 W{} H{} F{}:1 Ip A1:1 C420",
                    picture.width, picture.height, self.fps
                )?;
                *self.size.insert((picture.width, picture.height))
            }
        };
        self.file.write_all(b"FRAME\n")?;
        if (picture.width, picture.height) == (width, height) {
            self.file.write_all(&picture.data)?;
        } else {
            self.file
                .write_all(&crate::video::scale::scale(picture, width, height).data)?;
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub fn finish(mut self) -> Result<(), Y4mError> {
        self.file.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::testing::grey;

    fn temporary(content: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film.y4m");
        std::fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_recording_is_read_back_and_loops() {
        let (_folder, path) = temporary(b"");
        let mut writer = Y4mWriter::create(&path, 25).unwrap();
        for luma in [10, 20, 30] {
            writer.write(&grey(16, 8, luma)).unwrap();
        }
        writer.write(&grey(32, 16, 40)).unwrap();
        writer.finish().unwrap();
        let mut reader = Y4mReader::open(&path).unwrap();
        assert_eq!((reader.size(), reader.fps()), ((16, 8), 25.0));
        let lumas: Vec<u8> = (0..6)
            .map(|_| reader.next_frame(Instant::now()).unwrap().y()[0])
            .collect();
        assert_eq!(lumas, [10, 20, 30, 40, 10, 20]);
    }

    #[test]
    fn files_that_are_no_y4m_are_refused_with_a_reason() {
        for (content, reason) in [
            (&b""[..], "not a y4m"),
            (b"RIFF", "not a y4m"),
            (b"YUV4MPEG2 W-1 H2\n", "not a y4m"),
            (b"YUV4MPEG2 W16 H9 F30:1\n", "must be even"),
            (b"YUV4MPEG2 W16382 H16382 F30:1\n", "cannot be used"),
            (b"YUV4MPEG2 W16 H8 F30:1 C444\n", "yuv420p"),
            (b"YUV4MPEG2 W16 H8 F0:0\n", "not a y4m"),
        ] {
            let (_folder, path) = temporary(content);
            let error = Y4mReader::open(&path).err().unwrap();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn a_file_cut_short_is_not_read_forever() {
        let (_folder, path) = temporary(b"YUV4MPEG2 W16 H8 F30:1\nFRAME\nabc");
        assert!(matches!(
            Y4mReader::open(&path).unwrap().next_frame(Instant::now()),
            Err(Y4mError::Empty)
        ));
    }
}
