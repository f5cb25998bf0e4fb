//! An app window, driven by WebDriver as a person would: clicks, typing, looking.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use crate::desktop::Desktop;
use crate::programs::{Running, log_to, wait_for};

/// How long a person would wait for a screen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A window of the app with a driver of its own.
pub struct Window {
    client: Client,
    _driver: Running,
}

/// A tile as the page shows it.
#[derive(Debug, Clone)]
pub struct TileSeen {
    /// Shown first.
    pub nickname: String,
    /// Shown under it.
    pub user: String,
    /// The own tile.
    pub own: bool,
    /// The participant's sid.
    pub sid: String,
}

/// A look at a picture on the screen, scaled down with square pixels.
pub struct Look {
    /// Milliseconds since the sampling began.
    pub at: f64,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Luma, row by row.
    pub luma: Vec<u8>,
}

impl Look {
    /// From what the pages' scripts give: a list of [ms, width, height, base64 of luma].
    pub fn list(found: Value) -> anyhow::Result<Vec<Self>> {
        let looks: Vec<(f64, u32, u32, String)> = serde_json::from_value(found)?;
        let engine = base64::engine::general_purpose::STANDARD;
        let decode = |(at, width, height, text): (f64, u32, u32, String)| {
            Ok(Self {
                at,
                width,
                height,
                luma: engine.decode(text)?,
            })
        };
        looks.into_iter().map(decode).collect()
    }
}

impl Window {
    /// Opens the app with these arguments.
    pub async fn open(desktop: &Desktop, app: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let port = free_port()?;
        let log = desktop.folder().join(format!("driver-{port}.log"));
        let driver = desktop
            .command("WebKitWebDriver")
            .args(["--host=127.0.0.1", &format!("--port={port}")])
            .envs([("TAURI_AUTOMATION", "true"), ("TAURI_WEBVIEW_AUTOMATION", "true")])
            .stdout(log_to(&log)?)
            .stderr(log_to(&log.with_extension("err"))?)
            .spawn()
            .context("WebKitWebDriver cannot be run")?;
        let driver = Running(driver);
        let capabilities = json!({
            "browserName": "wry",
            "webkitgtk:browserOptions": { "binary": app.display().to_string(), "args": args },
        });
        let Value::Object(capabilities) = capabilities else {
            bail!("not an object")
        };
        let address = format!("http://127.0.0.1:{port}");
        let client = wait_for("the app's window", PATIENCE, async || {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.clone());
            Ok(Some(builder.connect(&address).await?))
        })
        .await
        .with_context(|| crate::programs::tail(&log.with_extension("err")))?;
        Ok(Self {
            client,
            _driver: driver,
        })
    }

    fn by_id(id: &str) -> String {
        format!("[data-testid=\"{id}\"]")
    }

    /// Waits for an element to be there.
    pub async fn see(&self, id: &str) -> anyhow::Result<fantoccini::elements::Element> {
        let css = Self::by_id(id);
        self.client
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::Css(&css))
            .await
            .with_context(|| format!("{id} did not show"))
    }

    /// Whether an element is there now.
    pub async fn shows(&self, id: &str) -> anyhow::Result<bool> {
        Ok(!self.client.find_all(Locator::Css(&Self::by_id(id))).await?.is_empty())
    }

    /// Clicks.
    pub async fn click(&self, id: &str) -> anyhow::Result<()> {
        let element = self.see(id).await?;
        element
            .click()
            .await
            .with_context(|| format!("{id} could not be clicked"))
    }

    /// Types into an emptied field.
    pub async fn fill(&self, id: &str, text: &str) -> anyhow::Result<()> {
        let field = self.see(id).await?;
        field.clear().await?;
        field.send_keys(text).await?;
        Ok(())
    }

    /// An element's text.
    pub async fn text(&self, id: &str) -> anyhow::Result<String> {
        Ok(self.see(id).await?.text().await?)
    }

    /// An element's attribute.
    pub async fn attribute(&self, id: &str, name: &str) -> anyhow::Result<Option<String>> {
        Ok(self.see(id).await?.attr(name).await?)
    }

    /// Runs a script in the page.
    pub async fn script(&self, code: &str, args: Vec<Value>) -> anyhow::Result<Value> {
        Ok(self.client.execute(code, args).await?)
    }

    /// Signs in.
    pub async fn sign_in(&self, server: &str, user: &str, password: &str) -> anyhow::Result<()> {
        self.fill("sign-in-server", server).await?;
        self.fill("sign-in-user", user).await?;
        self.fill("sign-in-password", password).await?;
        self.click("sign-in-submit").await
    }

    /// Joins a room from the joining form.
    pub async fn join(&self, room: &str, nickname: &str) -> anyhow::Result<()> {
        self.fill("lobby-room", room).await?;
        self.fill("lobby-nickname", nickname).await?;
        self.click("lobby-join").await?;
        self.see("leave").await.map(drop)
    }

    /// The tiles as shown now.
    pub async fn tiles(&self) -> anyhow::Result<Vec<TileSeen>> {
        let found = self
            .script(
                r#"return [...document.querySelectorAll('[data-testid="tile"]')].map((t) => ({
                    nickname: t.querySelector('[data-testid="tile-nickname"]')?.textContent?.trim() ?? '',
                    user: t.querySelector('[data-testid="tile-user"]')?.textContent?.trim() ?? '',
                    own: t.dataset.self === 'true', sid: t.dataset.sid ?? '' }));"#,
                vec![],
            )
            .await?;
        let text = |t: &Value, name: &str| t[name].as_str().unwrap_or_default().to_owned();
        Ok(found
            .as_array()
            .context("no list")?
            .iter()
            .map(|t| TileSeen {
                nickname: text(t, "nickname"),
                user: text(t, "user"),
                own: t["own"].as_bool().unwrap_or_default(),
                sid: text(t, "sid"),
            })
            .collect())
    }

    /// Looks at a participant's tile on the canvas, at every animation frame for so many seconds.
    pub async fn watch(&self, sid: &str, seconds: f32) -> anyhow::Result<Vec<Look>> {
        let script = r#"
            const [sid, seconds, done] = arguments;
            const canvas = document.querySelector('[data-testid="stage-canvas"]');
            const small = document.createElement('canvas');
            small.width = 320;
            const pen = small.getContext('2d', { willReadFrequently: true });
            const start = performance.now(), looks = [];
            const look = () => {
                const now = performance.now() - start;
                if (now > seconds * 1000) { done(looks); return; }
                const tile = [...document.querySelectorAll('[data-testid="tile"]')].find((t) => t.dataset.sid === sid);
                if (tile && canvas) {
                    const t = tile.getBoundingClientRect(), c = canvas.getBoundingClientRect();
                    const sx = canvas.width / c.width, sy = canvas.height / c.height;
                    const height = Math.round((320 * t.height) / t.width);
                    if (small.height !== height) small.height = height;
                    pen.drawImage(canvas, (t.left - c.left) * sx, (t.top - c.top) * sy, t.width * sx, t.height * sy, 0, 0, 320, height);
                    const { data } = pen.getImageData(0, 0, 320, height);
                    let text = '';
                    for (let i = 0; i < data.length; i += 4)
                        text += String.fromCharCode((data[i] * 77 + data[i + 1] * 150 + data[i + 2] * 29) >> 8);
                    looks.push([now, 320, height, btoa(text)]);
                }
                requestAnimationFrame(look);
            };
            requestAnimationFrame(look);"#;
        Look::list(
            self.client
                .execute_async(script, vec![json!(sid), json!(seconds)])
                .await?,
        )
    }

    /// Keeps a picture of the page.
    pub async fn screenshot(&self, name: &str) -> anyhow::Result<()> {
        let png = self.client.screenshot().await?;
        std::fs::write(crate::desktop::output_folder()?.join(format!("{name}.png")), png)?;
        Ok(())
    }

    /// Closes the window; the app ends.
    pub async fn close(self) -> anyhow::Result<()> {
        self.client.close().await.map_err(Into::into)
    }
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
