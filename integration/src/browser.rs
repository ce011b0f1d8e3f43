//! A person with a browser: Chromium without a window, which `chromedriver` moves
//! (WebDriver, <https://www.w3.org/TR/webdriver2>). That is JSON over HTTP, of which
//! six commands are used here; clients of the whole of it bring fifty crates along.

use std::process::Command;

use serde_json::{Value, json};
use ureq::Agent;

use crate::private::SCRATCH;
use crate::{Running, Skip, World, until_within};

/// Where the driver listens, in the world's own network.
const DRIVER: &str = "http://127.0.0.1:9515";

/// How long a page may take to become so, in seconds.
const PATIENCE_S: u64 = 15;

/// What WebDriver calls the number of an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser, which ends with the test.
pub struct Browser {
    agent: Agent,
    session: String,
    _driver: Running,
}

/// Keys that are no letters, as WebDriver has them.
pub mod keys {
    /// To the next thing on the page.
    pub const TAB: &str = "\u{e004}";
    /// Presses what has the focus.
    pub const ENTER: &str = "\u{e007}";
    /// Down in a choice.
    pub const DOWN: &str = "\u{e015}";
    /// Held from here to [`NONE`].
    pub const SHIFT: &str = "\u{e008}";
    /// F6.
    pub const F6: &str = "\u{e036}";
    /// Whatever is held is let go.
    pub const NONE: &str = "\u{e000}";
}

impl World {
    /// Starts a browser, or says what is missing.
    pub fn browser(&self) -> Result<Browser, Skip> {
        self.needs("chromium")?;
        self.needs("chromedriver")?;
        let mut command = Command::new("chromedriver");
        let mut driver = self.start_command(command.arg("--port=9515").env("HOME", SCRATCH));
        driver.line_with("started successfully");
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--disable-sync",
                "--window-size=1200,1600", format!("--user-data-dir={SCRATCH}/chromium"),
            ] },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        // What WebDriver refuses is told in the body.
        let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
        let mut browser = Browser { agent, session: String::new(), _driver: driver };
        let made = browser.post("", &wanted).unwrap_or_else(|cause| panic!("no browser: {cause}"));
        browser.session = format!("/{}", made["sessionId"].as_str().expect("a session"));
        Ok(browser)
    }
}

impl Browser {
    fn post(&self, what: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{DRIVER}/session{}{what}", self.session);
        let post = self.agent.post(&url).content_type("application/json");
        let mut answer = post.send(body.to_string()).map_err(|error| error.to_string())?;
        let said = answer.body_mut().read_to_string().map_err(|error| error.to_string())?;
        let said: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        match said["value"]["error"].is_string() {
            true => Err(said["value"]["message"].to_string()),
            false => Ok(said["value"].clone()),
        }
    }

    #[track_caller]
    fn done(&self, what: &str, body: &Value) -> Value {
        self.post(what, body).unwrap_or_else(|cause| panic!("{what} {body}: {cause}"))
    }

    /// Goes to an address.
    #[track_caller]
    pub fn open(&self, url: &str) {
        self.done("/url", &json!({ "url": url }));
    }

    /// What a script returns that runs in the page.
    #[track_caller]
    pub fn asks(&self, script: &str) -> Value {
        self.done("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Awaits that an expression is true in the page.
    #[track_caller]
    pub fn until(&self, expression: &str) {
        let script = json!({ "script": format!("return Boolean({expression})"), "args": [] });
        let reached = || self.post("/execute/sync", &script) == Ok(Value::Bool(true));
        until_within(PATIENCE_S, &format!("the page has `{expression}`"), reached);
    }

    /// Awaits a text in what a selector of CSS finds.
    #[track_caller]
    pub fn shows(&self, css: &str, text: &str) {
        let (css, text) = (json!(css), json!(text));
        self.until(&format!("document.querySelector({css})?.textContent.includes({text})"));
    }

    /// Clicks on the first thing that a selector of CSS finds, as soon as it is there.
    #[track_caller]
    pub fn click(&self, css: &str) {
        self.until(&format!("document.querySelector({})", json!(css)));
        let found = self.done("/element", &json!({ "using": "css selector", "value": css }));
        let element = found[ELEMENT].as_str().expect("an element");
        self.done(&format!("/element/{element}/click"), &json!({}));
    }

    /// Clicks at a place of the window, in pixels.
    #[track_caller]
    pub fn click_at(&self, x: i64, y: i64) {
        let actions = json!([
            { "type": "pointerMove", "duration": 0, "x": x, "y": y },
            { "type": "pointerDown", "button": 0 },
            { "type": "pointerUp", "button": 0 },
        ]);
        let mouse = json!({ "type": "pointer", "id": "mouse", "actions": actions });
        self.done("/actions", &json!({ "actions": [mouse] }));
    }

    /// Presses keys, wherever the focus is.
    #[track_caller]
    pub fn press(&self, keys: &str) {
        let (mut actions, mut held) = (Vec::new(), Vec::new());
        for key in keys.chars().map(String::from) {
            let up = |key: &String| json!({ "type": "keyUp", "value": key });
            if key == keys::NONE {
                actions.extend(held.drain(..).map(|key| up(&key)));
                continue;
            }
            actions.push(json!({ "type": "keyDown", "value": key }));
            match key == keys::SHIFT {
                true => held.push(key),
                false => actions.push(up(&key)),
            }
        }
        let board = json!({ "type": "key", "id": "keys", "actions": actions });
        self.done("/actions", &json!({ "actions": [board] }));
    }

    /// What the page complained of since this was asked last, such as a refused script.
    #[track_caller]
    pub fn complaints(&self) -> Vec<String> {
        let said = self.done("/se/log", &json!({ "type": "browser" }));
        let said = said.as_array().expect("a list").iter();
        let said = said.filter(|it| it["level"] == "SEVERE" || it["level"] == "WARNING");
        said.map(|it| it["message"].to_string()).collect()
    }
}
