//! What differs from system to system: the environment of the web view and the
//! sound library, the clipboard, notices.

use crate::dto::UiError;
use crate::shell::{Answer, Shell};

/// Sets what must be set before any thread or library starts. The environment of a running process cannot be
/// changed safely, so the program starts itself anew, once, with the right one.
pub fn fix_environment() {
    #[cfg(target_os = "linux")]
    linux::fix_environment();
}

/// The theme to begin with: dark, unless the system states another wish. Systems that state it well are left alone; a
/// bare Linux desktop states none, and its web view would report light.
pub fn theme() -> Option<tauri::Theme> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let asked = std::process::Command::new("gsettings")
        .args(["get", "org.gnome.desktop.interface", "color-scheme"])
        .output();
    let light = asked.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("prefer-light"));
    Some(if light { tauri::Theme::Light } else { tauri::Theme::Dark })
}

/// Names the theme to the page: WebKitGTK reports light whatever the window's theme is.
pub fn theme_script() -> &'static str {
    match theme() {
        Some(tauri::Theme::Dark) => {
            "document.documentElement.dataset.theme = document.documentElement.dataset.systemTheme = 'dark';"
        }
        _ => "",
    }
}

/// A notice of the system; without a notification service nothing happens.
pub fn notify(title: &str, text: &str) {
    #[cfg(target_os = "linux")]
    {
        let _ = std::process::Command::new("notify-send")
            .args(["--app-name=Confab", title, text])
            .spawn();
    }
    tracing::info!(title, text, "notice");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::os::unix::process::CommandExt as _;
    use std::path::Path;

    const DONE: &str = "CONFAB_ENVIRONMENT";

    pub fn fix_environment() {
        if std::env::var_os(DONE).is_some() {
            return;
        }
        // Without a GPU, WebKitGTK's DMA-BUF renderer costs about 2.5 times as much as the plain one.
        let no_gpu = !Path::new("/dev/dri").exists() && std::env::var_os("WEBKIT_DISABLE_DMABUF_RENDERER").is_none();
        // This variable would make the sound library look for the server in the wrong place.
        let pulse_path = std::env::var_os("PULSE_RUNTIME_PATH").is_some();
        if !no_gpu && !pulse_path {
            return;
        }
        let Ok(program) = std::env::current_exe() else { return };
        let mut again = std::process::Command::new(program);
        again
            .args(std::env::args_os().skip(1))
            .env(DONE, "done")
            .env_remove("PULSE_RUNTIME_PATH");
        if no_gpu {
            again.env("WEBKIT_DISABLE_DMABUF_RENDERER", "1");
        }
        let error = again.exec();
        eprintln!("The app goes on with the environment as it is: {error}");
    }
}

impl Shell {
    /// Puts text on the clipboard.
    pub fn copy_text(&self, text: String) -> Answer<()> {
        use tauri_plugin_clipboard_manager::ClipboardExt as _;
        let failed = || {
            UiError::new(
                "clipboard",
                "the clipboard cannot be used; select the text and copy it by hand",
            )
        };
        let app = self.app().ok_or_else(failed)?;
        app.clipboard().write_text(text).map_err(|error| {
            tracing::warn!(%error, "clipboard");
            failed()
        })
    }

    /// Version, system and state, without secrets.
    pub fn diagnostics(&self) -> String {
        let state = self.state();
        let call = state
            .call
            .as_ref()
            .map(|c| format!("{:?}, {} people", c.phase, c.people.len()));
        let problems: Vec<_> = [&state.lobby.cameras, &state.lobby.microphones, &state.lobby.speakers]
            .into_iter()
            .filter_map(|menu| menu.problem.clone())
            .collect();
        format!(
            "Confab {} on {} {}\nscreen: {:?}\nsigned in: {}\nhosting: {}\ncall: {}\ndevices: {}\n",
            state.version,
            std::env::consts::OS,
            std::env::consts::ARCH,
            state.screen,
            state.session.is_some(),
            state.hosting.is_some(),
            call.as_deref().unwrap_or("none"),
            if problems.is_empty() {
                "no problems".to_owned()
            } else {
                problems.join(" ")
            },
        )
    }
}
