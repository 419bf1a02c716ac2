//! Headless Chromium, driven over two pipes with the `DevTools` protocol.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Guard;
use super::wait::{DEADLINE, directory, wait_for};

/// The protocol uses descriptors 3 and 4. Chromium's sandbox does not work for root; the pages are our own.
const START: &str = r#"exec "${CHROMIUM:-chromium}" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage \
    --no-first-run --disable-background-networking --remote-debugging-pipe "--user-data-dir=$0" \
    3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

/// The browser; killed when dropped.
pub(crate) struct Browser {
    wire: RefCell<Wire>,
    _child: Guard,
    _profile: TempDir,
}

struct Wire {
    requests: ChildStdin,
    messages: Receiver<Value>,
    last: u64,
    events: Vec<Value>,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = directory();
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Guard(command.spawn().unwrap());
        let requests = child.0.stdin.take().unwrap();
        let mut responses = BufReader::new(child.0.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            let mut message = Vec::new();
            while responses.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                if sender.send(serde_json::from_slice(&message).unwrap()).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let wire = Wire { requests, messages, last: 0, events: Vec::new() };
        Self { wire: RefCell::new(wire), _child: child, _profile: profile }
    }

    #[track_caller]
    fn call(&self, session: Option<&str>, method: &str, parameters: &Value) -> Value {
        let mut wire = self.wire.borrow_mut();
        wire.last += 1;
        let id = wire.last;
        let mut request = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        wire.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        loop {
            let message = wire.messages.recv_timeout(DEADLINE).expect("the browser responds");
            if message["id"] != id {
                wire.events.push(message);
                continue;
            }
            assert_eq!(message["error"], Value::Null, "{method}");
            return message["result"].clone();
        }
    }

    /// Opens a page as on a tablet of this size.
    #[track_caller]
    pub(crate) fn open(&self, url: &str, width: u32, height: u32) -> Tab<'_> {
        self.open_in("en", url, (width, height))
    }

    /// As [`Self::open`], in a browser whose user prefers this language.
    #[track_caller]
    pub(crate) fn open_in(&self, language: &str, url: &str, (width, height): (u32, u32)) -> Tab<'_> {
        let target = self.call(None, "Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &attach);
        let tab = Tab { browser: self, session: attached["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        let headers = json!({"headers": {"Accept-Language": language}});
        tab.call("Network.setExtraHTTPHeaders", &headers);
        tab.call("Emulation.setTouchEmulationEnabled", &json!({"enabled": true}));
        tab.resize(width, height);
        tab.call("Page.navigate", &json!({"url": url}));
        tab.wait("the page", "document.readyState === 'complete' && location.href !== 'about:blank'");
        tab
    }
}

/// An open page.
pub(crate) struct Tab<'b> {
    browser: &'b Browser,
    session: String,
}

impl Tab<'_> {
    #[track_caller]
    fn call(&self, method: &str, parameters: &Value) -> Value {
        self.browser.call(Some(&self.session), method, parameters)
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": true});
        self.call("Emulation.setDeviceMetricsOverride", &screen);
    }

    /// Sets a media feature, for example `prefers-color-scheme` to `dark`.
    pub(crate) fn prefer(&self, features: &[(&str, &str)]) {
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// What the window shows, as PNG.
    pub(crate) fn take_picture(&self) -> Vec<u8> {
        let picture = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// As on paper.
    pub(crate) fn emulate_print(&self) {
        self.call("Emulation.setEmulatedMedia", &json!({"media": "print", "features": []}));
    }

    /// The value of an expression, or of its promise.
    #[track_caller]
    pub(crate) fn eval(&self, expression: &str) -> Value {
        let request = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let response = self.call("Runtime.evaluate", &request);
        assert_eq!(response["exceptionDetails"], Value::Null, "{expression}");
        response["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, expression: &str) {
        wait_for(what, || self.eval(expression).as_bool().filter(|is| *is));
    }

    /// Waits until an element shows exactly this text.
    #[track_caller]
    pub(crate) fn wait_for_text(&self, selector: &str, text: &str) {
        let shown = format!(
            "(node => node !== null && node.checkVisibility() && node.textContent === {})(document.querySelector({}))",
            json!(text),
            json!(selector)
        );
        self.wait(text, &shown);
    }

    /// The texts of all elements.
    #[track_caller]
    pub(crate) fn texts(&self, selector: &str) -> Vec<String> {
        let all =
            format!("[...document.querySelectorAll({})].map(node => node.textContent)", json!(selector));
        serde_json::from_value(self.eval(&all)).unwrap()
    }

    /// Taps on the middle of an element, which must not be covered by another one.
    #[track_caller]
    pub(crate) fn tap(&self, selector: &str) {
        let find = format!(
            "(node => {{
                node.scrollIntoView({{block: 'center'}});
                const place = node.getBoundingClientRect();
                const [x, y] = [place.x + place.width / 2, place.y + place.height / 2];
                return {{x, y, free: node.contains(document.elementFromPoint(x, y))}};
            }})(document.querySelector({}))",
            json!(selector)
        );
        let place = self.eval(&find);
        assert_eq!(place["free"], true, "{selector} can be touched: {place}");
        let finger = json!([{"x": place["x"], "y": place["y"]}]);
        self.call("Input.dispatchTouchEvent", &json!({"type": "touchStart", "touchPoints": finger}));
        self.call("Input.dispatchTouchEvent", &json!({"type": "touchEnd", "touchPoints": []}));
    }

    /// Types a text into the focused element, and presses Enter.
    #[track_caller]
    pub(crate) fn enter(&self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
        for kind in ["keyDown", "keyUp"] {
            let key = json!({"type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"});
            self.call("Input.dispatchKeyEvent", &key);
        }
    }

    /// What the browser requested since the beginning, the page included.
    #[track_caller]
    pub(crate) fn requested_urls(&self) -> Vec<String> {
        self.eval("null");
        let wire = self.browser.wire.borrow();
        let requests = wire.events.iter().filter(|event| {
            event["method"] == "Network.requestWillBeSent" && event["sessionId"] == self.session
        });
        requests.map(|event| event["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// The browser's errors since the beginning: of scripts, and for resources that it did not load or run.
    pub(crate) fn browser_errors(&self) -> Vec<Value> {
        // All messages from before this response have been received.
        self.eval("null");
        let wire = self.browser.wire.borrow();
        let complains = |event: &&Value| {
            ["Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"]
                .iter()
                .any(|method| event["method"] == *method && event["sessionId"] == self.session)
        };
        wire.events.iter().filter(complains).cloned().collect()
    }
}
