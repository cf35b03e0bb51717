//! Debian's Chromium without a window, by its DevTools protocol.

use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The programs that are tried, in this order.
const PROGRAMS: [&str; 2] = ["chromium-headless-shell", "chromium"];
/// How long an answer may take before the browser counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one page.
pub(crate) struct Browser {
    process: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    last_call: u64,
    session: Option<String>,
    scratch: PathBuf,
}

impl Browser {
    /// Starts a browser and opens a page.
    pub(crate) fn open(name: &str, page: &str) -> Browser {
        let scratch = std::env::temp_dir().join(format!("bridgewarden-page-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).expect("a directory for the browser");
        let file = scratch.join("page.html");
        std::fs::write(&file, page).expect("the page can be written");
        Browser::show(Browser::start(scratch, Command::spawn), &format!("file://{}", file.display()))
    }

    /// Starts a browser as `spawn` does, and opens what is served at an address.
    pub(crate) fn at(
        name: &str,
        url: &str,
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> Browser {
        let scratch = std::env::temp_dir().join(format!("bridgewarden-page-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).expect("a directory for the browser");
        Browser::show(Browser::start(scratch, spawn), url)
    }

    fn show(mut browser: Browser, url: &str) -> Browser {
        let target =
            browser.call("Target.createTarget", json!({"url": "about:blank", "width": 1280, "height": 800}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)["sessionId"].clone();
        browser.session = session.as_str().map(str::to_owned);
        browser.call("Runtime.enable", json!({}));
        browser.call("Page.navigate", json!({"url": url}));
        browser.evaluate("new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))");
        browser
    }

    fn start(scratch: PathBuf, spawn: impl FnOnce(&mut Command) -> io::Result<Child>) -> Browser {
        let path = std::env::var("PATH").unwrap_or_default();
        let is_there =
            |program: &str| path.split(':').any(|directory| Path::new(directory).join(program).is_file());
        let program = PROGRAMS.into_iter().find(|program| is_there(program));
        let program = program.expect("chromium-headless-shell is missing: `make setup` installs it");
        // The protocol is spoken over the descriptors 3 and 4.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", program])
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", scratch.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = spawn(&mut command).expect("the browser starts");
        let input = process.stdin.take().expect("it is piped");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Browser { process, input, messages, last_call: 0, session: None, scratch }
    }

    /// Calls a method of the protocol, and returns its result. Fails if the page's script has failed meanwhile.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last_call += 1;
        let mut message = json!({"id": self.last_call, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.input.write_all(format!("{message}\0").as_bytes()).expect("the browser listens");
        loop {
            let answer = self.messages.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|_| panic!("the browser does not answer {method}"));
            assert_ne!(answer["method"], "Runtime.exceptionThrown", "{answer:#}");
            if answer["id"] == self.last_call {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The value of an expression in the page, or what its promise comes to.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result:#}");
        result["result"]["value"].clone()
    }

    /// The text that an element shows.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({selector:?}).innerText"));
        text.as_str().unwrap_or_else(|| panic!("{selector} has no text")).to_owned()
    }

    /// How many elements there are.
    pub(crate) fn count(&mut self, selector: &str) -> u64 {
        self.evaluate(&format!("document.querySelectorAll({selector:?}).length")).as_u64().expect("a number")
    }

    /// Clicks on the middle of an element with the mouse.
    pub(crate) fn click(&mut self, selector: &str) {
        let at = self.evaluate(&format!(
            "(() => {{ const element = document.querySelector({selector:?}); \
             element.scrollIntoView({{ block: 'center', inline: 'center' }}); \
             const box = element.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// Presses and releases a key that writes nothing.
    pub(crate) fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "End" => 35,
            "Home" => 36,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            _ => panic!("{key} has no code here"),
        };
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Writes a text where the focus is.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({"text": text}));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helper processes end with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.scratch);
    }
}
