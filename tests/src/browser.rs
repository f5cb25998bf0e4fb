//! livekit-client in a headless Chromium: a participant that shares no code with this project.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use fantoccini::{Client, ClientBuilder};
use serde_json::{Value, json};

use crate::programs::{Running, log_to, wait_for};
use crate::window::Look;

/// The browser.
pub struct Browser {
    client: Client,
    _driver: Running,
    _page: tokio_util::task::AbortOnDropHandle<()>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Opens the page of `tests/browser`.
    pub async fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (page, address) = serve_page().await?;
        let port = crate::window::free_port()?;
        let driver = std::process::Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("HOME", folder.path())
            .stdin(std::process::Stdio::null())
            .stdout(log_to(&folder.path().join("driver.log"))?)
            .stderr(log_to(&folder.path().join("driver.err"))?)
            .spawn()
            .context("chromedriver cannot be run")?;
        let driver = Running(driver);
        let profile = format!("--user-data-dir={}", folder.path().join("profile").display());
        let capabilities = json!({ "goog:chromeOptions": { "args": [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", profile,
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
            "--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection",
        ] } });
        let Value::Object(capabilities) = capabilities else {
            bail!("not an object")
        };
        let webdriver = format!("http://127.0.0.1:{port}");
        let client = wait_for("the browser", Duration::from_secs(20), async || {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.clone());
            Ok(Some(builder.connect(&webdriver).await?))
        })
        .await?;
        client.goto(&address).await?;
        Ok(Self {
            client,
            _driver: driver,
            _page: page,
            _folder: folder,
        })
    }

    /// Joins a room, and sends camera and tone if asked to.
    pub async fn join(&self, url: &str, token: &str, send: bool) -> anyhow::Result<()> {
        let script = "const [url, token, send, done] = arguments;
            join(url, token, send).then(done, (e) => done('failed: ' + e + ' ' + JSON.stringify(state.events)));";
        let answer = self
            .client
            .execute_async(script, vec![json!(url), json!(token), json!(send)])
            .await?;
        if answer != json!("joined") {
            bail!("livekit-client: {answer}");
        }
        Ok(())
    }

    /// Identities of the others, as livekit-client has them, with their names.
    pub async fn others(&self) -> anyhow::Result<Vec<(String, String)>> {
        let script = "return [...room.remoteParticipants.values()].map((p) => [p.identity, p.name ?? '']);";
        let found = self.client.execute(script, vec![]).await?;
        Ok(serde_json::from_value(found)?)
    }

    /// Looks at a participant's picture.
    pub async fn watch(&self, identity: &str, seconds: f32) -> anyhow::Result<Vec<Look>> {
        let script = "const [identity, seconds, done] = arguments; watch(identity, seconds, done);";
        Look::list(
            self.client
                .execute_async(script, vec![json!(identity), json!(seconds)])
                .await?,
        )
    }

    /// The loudest frequency of a participant, Hz, and its level, dB.
    pub async fn listen(&self, identity: &str) -> anyhow::Result<Option<(f64, f64)>> {
        let found = self
            .client
            .execute("return listen(arguments[0]);", vec![json!(identity)])
            .await?;
        Ok(serde_json::from_value(found)?)
    }

    /// What happened so far.
    pub async fn events(&self) -> anyhow::Result<Vec<String>> {
        Ok(serde_json::from_value(
            self.client.execute("return state.events;", vec![]).await?,
        )?)
    }

    /// Runs a script.
    pub async fn script(&self, code: &str) -> anyhow::Result<Value> {
        Ok(self.client.execute(code, vec![]).await?)
    }

    /// Leaves and closes.
    pub async fn close(self) -> anyhow::Result<()> {
        self.client.execute("room.disconnect();", vec![]).await?;
        self.client.close().await.map_err(Into::into)
    }
}

async fn serve_page() -> anyhow::Result<(tokio_util::task::AbortOnDropHandle<()>, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser");
    let page = std::fs::read_to_string(folder.join("page.html"))?;
    let library = std::fs::read_to_string(folder.join("node_modules/livekit-client/dist/livekit-client.umd.js"))
        .context("run npm ci in tests/browser first (scripts/test does)")?;
    let script = ([("content-type", "text/javascript")], library);
    let app = axum::Router::new()
        .route(
            "/",
            axum::routing::get(async move || axum::response::Html(page.clone())),
        )
        .route(
            "/livekit-client.umd.js",
            axum::routing::get(async move || script.clone()),
        );
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = format!("http://{}/", listener.local_addr()?);
    let task = tokio::spawn(async move {
        let _ = axum::serve(listener, app).await;
    });
    Ok((tokio_util::task::AbortOnDropHandle::new(task), address))
}
