//! Browsers: cookies in place of tokens, and only from their own site.

use reqwest::header::{HeaderMap, SET_COOKIE};
use serde_json::{Value, json};

use crate::support::{World, code, ok};

/// The cookies that an answer sets, as a browser would send them back.
fn cookies(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .get_all(SET_COOKIE)
        .iter()
        .map(|v| {
            let text = v.to_str().unwrap();
            assert!(text.contains("HttpOnly") && text.contains("SameSite=Strict"), "{text}");
            let pair = text.split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

async fn browser_login(world: &World) -> (Value, Vec<(String, String)>) {
    let request = world.post("/api-login/login").header("x-confab-client", "browser");
    let response = request
        .json(&json!({ "user": "publisher1", "pass": "pass" }))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let found = cookies(response.headers());
    (response.json().await.unwrap(), found)
}

fn value<'a>(cookies: &'a [(String, String)], name: &str) -> &'a str {
    &cookies.iter().find(|(n, _)| n == name).unwrap().1
}

#[tokio::test]
async fn a_browser_gets_cookies_and_no_tokens() {
    let world = World::new().await;
    let (body, found) = browser_login(&world).await;
    assert!(body.get("sessionToken").is_none() && body.get("refreshToken").is_none());
    let cookie = format!("confab_session={}", value(&found, "confab_session"));
    let own = format!("http://{}", world.server.address());
    let session = ok(world
        .get("/api-login/session")
        .header("cookie", &cookie)
        .header("origin", &own))
    .await;
    assert_eq!(session["user"], "publisher1");
    ok(world
        .get("/api-login/session")
        .header("cookie", &cookie)
        .header("sec-fetch-site", "same-origin"))
    .await;
}

#[tokio::test]
async fn another_site_gets_nothing_done_with_the_cookie() {
    let world = World::new().await;
    let (_, found) = browser_login(&world).await;
    let cookie = format!("confab_session={}", value(&found, "confab_session"));
    for (name, from) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("referer", "https://evil.example/"),
    ] {
        let request = world
            .post("/api-sessions/get-sessionid-token")
            .header("cookie", &cookie)
            .header(name, from);
        assert_eq!(
            code(request.json(&json!({ "session": "R" }))).await,
            (403, "cross_site".into()),
            "{name}"
        );
        assert_eq!(
            code(
                world
                    .get("/api-login/logout")
                    .header("cookie", &cookie)
                    .header(name, from)
            )
            .await,
            (403, "cross_site".into())
        );
    }
    let request = world
        .post("/api-sessions/get-sessionid-token")
        .header("cookie", &cookie)
        .json(&json!({ "session": "R" }));
    assert_eq!(
        code(request).await,
        (403, "cross_site".into()),
        "a request that says nothing of where it comes from"
    );
}

#[tokio::test]
async fn browsers_refresh_and_sign_out_by_cookie() {
    let world = World::new().await;
    let (_, found) = browser_login(&world).await;
    let own = format!("http://{}", world.server.address());
    let refresh = format!("confab_refresh={}", value(&found, "confab_refresh"));
    let response = world
        .post("/api-login/refresh")
        .header("cookie", &refresh)
        .header("origin", &own)
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let next = cookies(response.headers());
    assert_ne!(value(&next, "confab_session"), value(&found, "confab_session"));
    let cross = world
        .post("/api-login/refresh")
        .header("cookie", &refresh)
        .header("origin", "https://evil.example");
    assert_eq!(code(cross).await, (403, "cross_site".into()));
    let session = format!("confab_session={}", value(&next, "confab_session"));
    let out = world
        .post("/api-login/logout")
        .header("cookie", &session)
        .header("origin", &own)
        .send()
        .await
        .unwrap();
    assert!(
        cookies(out.headers()).iter().all(|(_, v)| v.is_empty()),
        "both are taken away"
    );
    assert_eq!(
        code(
            world
                .get("/api-login/session")
                .header("cookie", &session)
                .header("origin", &own)
        )
        .await,
        (401, "not_signed_in".into())
    );
}

#[tokio::test]
async fn a_session_cookie_set_before_signing_in_is_not_taken_over() {
    let world = World::new().await;
    let request = world
        .post("/api-login/login")
        .header("x-confab-client", "browser")
        .header("cookie", "confab_session=chosen-by-the-attacker");
    let response = request
        .json(&json!({ "user": "publisher1", "pass": "pass" }))
        .send()
        .await
        .unwrap();
    assert_ne!(
        value(&cookies(response.headers()), "confab_session"),
        "chosen-by-the-attacker"
    );
}
