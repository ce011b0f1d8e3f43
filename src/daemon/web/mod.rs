//! The page: what a browser gets of this server. It was made when ovsns was (`page` has
//! its sources, `assets` what is made of them) and is in the program: nothing is read
//! from a disk, and no other host is asked.

mod terminal;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response};
use jsonrpsee::server::{HttpBody, HttpResponse};

pub(super) use terminal::{PATH as TERMINAL, Terminals};

/// What scripts, styles and connections the page may have: its own. The terminal writes
/// the widths of its letters into a sheet of its own, so styles may be inline; texts of
/// labs come into the page as texts only. No other page may show it in a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; \
    style-src 'self' 'unsafe-inline'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

/// What goes with each part of the page.
const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// A part of the page: its path, what it is, and its bytes.
struct Asset(&'static str, &'static str, &'static [u8]);

const ASSETS: [Asset; 5] = [
    Asset("/", "text/html; charset=utf-8", include_bytes!("assets/index.html")),
    Asset("/page.js", "text/javascript; charset=utf-8", include_bytes!("assets/page.js")),
    Asset("/page.css", "text/css; charset=utf-8", include_bytes!("assets/page.css")),
    Asset("/icon.svg", "image/svg+xml", include_bytes!("assets/icon.svg")),
    Asset("/licences.txt", "text/plain; charset=utf-8", include_bytes!("assets/licences.txt")),
];

/// The part of the page that is asked for, if one is. It has nothing of any lab in it,
/// so it is given without a token: the page asks for that.
pub(super) fn asset<B>(request: &Request<B>) -> Option<HttpResponse> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    if !is_read || request.headers().contains_key(UPGRADE) {
        return None;
    }
    let Asset(_, kind, bytes) = ASSETS.iter().find(|it| it.0 == request.uri().path())?;
    let mut answer = Response::new(HttpBody::new(Full::new(Bytes::from_static(bytes))));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// `made-of` has a hash of each source and of all that was made of them.
    #[test]
    fn it_is_made_of_its_sources() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/daemon/web/assets");
        let made_of = fs::read_to_string(here.join("made-of")).expect("it is there");
        let mut known = BTreeSet::new();
        for line in made_of.lines() {
            let (hash, name) = line.split_once("  ").expect("as `sha256sum` writes it");
            let bytes = fs::read(here.join(name)).unwrap_or_else(|cause| panic!("{name}: {cause}"));
            let digest = Sha256::digest(bytes);
            let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let mend = "`npm ci --ignore-scripts && npm run make` in src/daemon/web/page";
            assert_eq!(found, hash, "`{name}` is other than when the page was made: {mend}");
            known.insert(name.to_owned());
        }
        let files = |directory: &str| {
            let entries = fs::read_dir(here.join(directory)).expect("a directory");
            let names = entries.map(|it| it.expect("a file").file_name().into_string());
            let names: Vec<String> = names.map(|it| it.expect("a name")).collect();
            names.into_iter().filter(|it| it != "node_modules" && it != "made-of")
        };
        let there = files(".").chain(files("../page").map(|name| format!("../page/{name}")));
        assert_eq!(known, there.collect());
    }

    #[test]
    fn only_what_is_there_is_given() {
        let ask = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path).body(()).expect("a request");
            asset(&request).is_some()
        };
        for Asset(path, ..) in ASSETS {
            assert!(ask("GET", path) && ask("HEAD", path), "{path}");
            assert!(!ask("POST", path), "{path}");
        }
        for path in ["/page.ts", "/../Cargo.toml", "/assets/page.js", "//", "/rpc", "/terminal"] {
            assert!(!ask("GET", path), "{path}");
        }
        let upgrade = Request::builder().uri("/").header(UPGRADE, "websocket").body(());
        assert!(asset(&upgrade.expect("a request")).is_none());
    }

    #[test]
    fn it_asks_for_nothing_but_its_own() {
        for Asset(path, kind, bytes) in ASSETS {
            if path == "/page.js" || kind.starts_with("text/plain") {
                // Texts in it name other hosts; that none is asked is by `POLICY`.
                continue;
            }
            let text = std::str::from_utf8(bytes).expect("text");
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("//") || path == "/page.css", "{path}");
            assert!(!text.contains("url(") && !text.contains("<script>"), "{path}");
            for asked in text.split(['"', ' ']).filter_map(|it| it.strip_prefix("/")) {
                if asked.ends_with(".js") || asked.ends_with(".css") {
                    assert!(ASSETS.iter().any(|it| it.0[1..] == *asked), "{path}: {asked}");
                }
            }
        }
    }
}
