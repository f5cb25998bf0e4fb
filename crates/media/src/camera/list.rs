//! Which cameras there are, and stable names for them: indices change when a camera
//! is plugged in again, the name of its card and socket do not.

use nokhwa::utils::CameraIndex;

use crate::{DeviceInfo, DeviceKind};

/// A camera that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What nokhwa opens it by, now.
    pub index: CameraIndex,
    /// Stable name.
    pub id: String,
    /// Name for people.
    pub label: String,
}

impl Found {
    /// Whether a person who wrote `id` means this one.
    pub fn is(&self, id: &str) -> bool {
        self.id == id || id == self.label || path_of(&self.index).is_some_and(|path| path == id)
    }
}

fn path_of(index: &CameraIndex) -> Option<String> {
    index
        .as_index()
        .ok()
        .filter(|_| cfg!(target_os = "linux"))
        .map(|index| format!("/dev/video{index}"))
}

/// As menus show them.
pub fn infos(found: &[Found]) -> Vec<DeviceInfo> {
    let info = |(position, found): (usize, &Found)| DeviceInfo {
        id: found.id.clone(),
        label: found.label.clone(),
        kind: DeviceKind::Camera,
        default: position == 0,
    };
    found.iter().enumerate().map(info).collect()
}

/// All cameras, in a steady order.
pub fn find() -> Vec<Found> {
    let mut found = system();
    found.sort_by_key(|f| (f.index.as_index().unwrap_or(u32::MAX), f.id.clone()));
    // Two of one make in one socket's name: tell them apart by number.
    for at in 1..found.len() {
        let same = found[..at].iter().filter(|f| f.id == found[at].id).count();
        if same > 0 {
            found[at].id = format!("{}#{}", found[at].id, same + 1);
        }
    }
    found
}

#[cfg(target_os = "linux")]
fn system() -> Vec<Found> {
    use v4l::capability::Flags;

    let describe = |node: &v4l::context::Node| {
        let path = node.path().to_owned();
        let index = CameraIndex::Index(u32::try_from(node.index()).ok()?);
        // Some cameras have several nodes, of which only some give pictures. A node that cannot be opened now
        // (permissions) is listed: opening it says why.
        let Ok(device) = v4l::Device::with_path(&path) else {
            let label = node.name().unwrap_or_else(|| path.display().to_string());
            return Some(Found {
                index,
                id: path.display().to_string(),
                label,
            });
        };
        // The binding unwraps names that are not UTF-8.
        let caps = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| device.query_caps()))
            .ok()?
            .ok()?;
        let usable = caps.capabilities.contains(Flags::VIDEO_CAPTURE | Flags::STREAMING);
        usable.then(|| Found {
            index,
            id: format!("{}@{}", caps.card, caps.bus),
            label: caps.card,
        })
    };
    v4l::context::enum_devices().iter().filter_map(describe).collect()
}

#[cfg(not(target_os = "linux"))]
fn system() -> Vec<Found> {
    let describe = |info: nokhwa::utils::CameraInfo| {
        let (misc, label) = (info.misc(), info.human_name());
        let id = if misc.is_empty() { label.clone() } else { misc };
        Found {
            index: info.index().clone(),
            id,
            label,
        }
    };
    nokhwa::query(nokhwa::utils::ApiBackend::Auto)
        .unwrap_or_default()
        .into_iter()
        .map(describe)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_is_found_by_id_by_name_and_by_path() {
        let found = Found {
            index: CameraIndex::Index(3),
            id: "Cam@usb-1".into(),
            label: "Cam".into(),
        };
        assert!(found.is("Cam@usb-1") && found.is("Cam") && !found.is("Other"));
        assert_eq!(found.is("/dev/video3"), cfg!(target_os = "linux"));
    }

    #[test]
    fn the_first_camera_is_the_default() {
        let found = |n| Found {
            index: CameraIndex::Index(n),
            id: n.to_string(),
            label: "Cam".into(),
        };
        let infos = infos(&[found(0), found(2)]);
        assert!(infos[0].default && !infos[1].default);
    }
}
