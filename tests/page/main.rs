//! The page of `bridgewarden reach -o html` in a browser: it draws, filters and explains, with a mouse, with a keyboard and with
//! a screen reader, in dark and in light. And the same page of an agent, with what is denied on its node.

mod browser;
mod live;

use browser::Browser;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `reach -o html` prints for manifests, which it reads from its standard input.
fn page(arguments: &[&str], manifests: &str) -> String {
    let mut process = Command::new(env!("CARGO_BIN_EXE_bridgewarden"))
        .current_dir(project())
        .args(["reach", "-o", "html"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    process.stdin.take().expect("it is piped").write_all(manifests.as_bytes()).expect("it reads");
    let output = process.wait_with_output().expect("the program ends");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

fn orders(name: &str) -> Browser {
    Browser::open(name, &page(&["-f", "examples/reach/before.yaml"], ""))
}

const CLUSTER: [usize; 2] = [10, 20];

/// Ten namespaces with twenty workloads each, every one of which has a policy.
fn large_cluster() -> String {
    let mut text = String::new();
    for namespace in 0..CLUSTER[0] {
        for workload in 0..CLUSTER[1] {
            let next = (workload + 1) % CLUSTER[1];
            let _ = write!(
                text,
                "---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: app-{workload}, namespace: team-{namespace} }}
spec:
  selector: {{ matchLabels: {{ app: app-{workload} }} }}
  template:
    metadata: {{ labels: {{ app: app-{workload} }} }}
    spec: {{ containers: [ {{ name: main, image: main }} ] }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: app-{workload}, namespace: team-{namespace} }}
spec:
  podSelector: {{ matchLabels: {{ app: app-{workload} }} }}
  ingress:
  - from: [ {{ podSelector: {{ matchLabels: {{ app: app-{next} }} }} }} ]
    ports: [ {{ port: {port} }} ]
",
                port = 8000 + workload,
            );
        }
    }
    text
}

#[test]
fn two_hundred_workloads_are_drawn_and_a_click_on_a_cell_explains_it() {
    let mut browser = Browser::open("large", &page(&["--group", "none", "-f", "-"], &large_cluster()));
    let lines = (CLUSTER[0] * CLUSTER[1] + 1) as u64;
    assert_eq!((browser.count("tbody tr"), browser.count("td")), (lines, lines * lines));
    browser.click("td[aria-label='team-3/deployment/app-8 to team-3/deployment/app-7: 8007/TCP']");
    let details = browser.text("#details");
    assert!(details.contains("team-3/deployment/app-8 → team-3/deployment/app-7"), "{details}");
    assert!(
        details.contains("No policy isolates it") && details.contains("team-3/app-7 ingress[0]"),
        "{details}"
    );
    browser.click("td[aria-label='team-3/deployment/app-7 to team-4/deployment/app-7: nothing']");
    assert!(browser.text("#details").contains("None of their rules allows this peer."));
}

#[test]
fn filter_leaves_the_lines_that_contain_it() {
    let mut browser = orders("filter");
    let [rows, columns] = ["tbody tr", "thead th"].map(|lines| browser.count(lines));
    browser.click("#destination");
    browser.write("statefulset/DB");
    assert_eq!((browser.count("tbody tr"), browser.count("thead th")), (rows, 2), "of {columns}");
    browser.click("#source");
    browser.write("web");
    assert_eq!(
        browser.evaluate("document.querySelector('td').ariaLabel"),
        "orders/deployment/web to orders/statefulset/db: nothing"
    );
    assert_eq!(browser.count("td"), 1);
    browser.write("no such name");
    assert!(browser.text("#view").contains("No names contain"), "{}", browser.text("#view"));
}

#[test]
fn keyboard_alone_reaches_every_control_and_cell() {
    let mut browser = orders("keyboard");
    let focused = "document.activeElement.id || document.activeElement.dataset.at";
    let mut reached = Vec::new();
    for _ in 0..7 {
        browser.press("Tab");
        reached.push(browser.evaluate(focused));
    }
    assert_eq!(
        json!(reached),
        json!(["source", "destination", "namespace", "matrix", "graph", "theme", "0,0"])
    );
    let shows_focus = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(browser.evaluate(shows_focus), "solid");
    for (key, place) in [("ArrowRight", "0,1"), ("ArrowDown", "1,1"), ("Home", "1,0"), ("ArrowRight", "1,1")]
    {
        browser.press(key);
        assert_eq!(browser.evaluate(focused), place, "{key}");
    }
    browser.press("Home");
    browser.press("End");
    browser.press("Enter");
    let label = browser.evaluate("document.activeElement.getAttribute('aria-label')");
    let (pair, ports) = label.as_str().and_then(|label| label.rsplit_once(": ")).expect("a label");
    let details = browser.text("#details");
    assert!(details.contains(&pair.replace(" to ", " → ")) && details.contains(ports), "{label} {details}");
    assert_eq!(browser.count("td[aria-selected=true]"), 1);
}

#[test]
fn graph_has_an_edge_for_each_connection_that_a_policy_limits() {
    let mut browser = orders("graph");
    browser.click("#graph");
    assert_eq!(
        browser.count("svg path[aria-label='orders/deployment/api to orders/statefulset/db: 5432/TCP']"),
        1
    );
    assert_eq!(browser.count("svg path[aria-label^='orders/deployment/web to orders/statefulset/db']"), 0);
    browser.evaluate("document.querySelector('svg path[aria-label$=\"db: 5432/TCP\"]').focus()");
    browser.press("Enter");
    assert!(browser.text("#details").contains("orders/deployment/api → orders/statefulset/db"));
}

/// The texts of a page whose contrast with what is behind them is too low, and the lines of the graph (WCAG 2.2, 1.4.3 and 1.4.11).
const LOW_CONTRAST: &str = r##"(() => {
  const parse = text => { const found = text.match(/[\d.]+/g).map(Number); return found.length < 4 ? [...found, 1] : found; };
  const over = (front, back, alpha) => front.slice(0, 3).map((value, place) => value * alpha + back[place] * (1 - alpha));
  const light = color => { const [r, g, b] = color.map(value => { const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { if (!element) return [255, 255, 255];
    const color = parse(getComputedStyle(element).backgroundColor); return over(color, color[3] < 1 ? behind(element.parentElement) : color, color[3]); };
  const ratio = (one, other) => { const [low, high] = [light(one), light(other)].sort((a, b) => a - b); return (high + 0.05) / (low + 0.05); };
  const found = [];
  for (const element of document.querySelectorAll("body, body *")) {
    const style = getComputedStyle(element), back = behind(element), tag = element.localName;
    const writes = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (tag === "script" || tag === "title" || tag === "option") continue;
    const check = (color, least) => { const own = parse(color), alpha = own[3] * style.opacity, value = ratio(over(own, back, alpha), back);
      if (value < least) found.push(`${tag}.${element.getAttribute("class") || element.id}: ${value.toFixed(2)}`); };
    if (tag === "path") check(style.stroke, 3);
    else if (tag === "text") check(style.fill, 4.5);
    else if (writes) check(style.color, 4.5);
  }
  return [...new Set(found)];
})()"##;

#[test]
fn texts_and_lines_have_contrast_in_dark_and_in_light() {
    let mut browser = orders("contrast");
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        browser.call("Emulation.setEmulatedMedia", json!({"features": features}));
        for view in ["#graph", "#matrix"] {
            browser.click(view);
            assert_eq!(browser.evaluate(LOW_CONTRAST), json!([]), "{scheme} {view}");
        }
        backgrounds.push(browser.evaluate("getComputedStyle(document.body).backgroundColor"));
        browser.click("#theme");
        assert_eq!(browser.evaluate(LOW_CONTRAST), json!([]), "{scheme}, changed");
        // From here on the system's mode counts again.
        browser.evaluate("document.documentElement.className = ''");
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    // A check that finds nothing may be blind.
    browser.evaluate("document.querySelector('h1').style.color = '#555'");
    assert_eq!(browser.evaluate(LOW_CONTRAST).as_array().map(Vec::len), Some(1));
}

#[test]
fn screen_reader_finds_a_name_for_every_control_and_cell() {
    let mut browser = orders("reader");
    let nodes = browser.call("Accessibility.getFullAXTree", json!({}))["nodes"].clone();
    let of_role = |role: &str| -> Vec<String> {
        let nodes = nodes.as_array().into_iter().flatten().filter(|node| node["role"]["value"] == role);
        nodes.map(|node| node["name"]["value"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of_role("grid"), ["Who can reach whom"]);
    assert!(
        of_role("gridcell").contains(&"orders/deployment/api to orders/statefulset/db: 5432/TCP".to_owned())
    );
    for role in ["gridcell", "button", "searchbox", "combobox", "columnheader", "rowheader"] {
        let names = of_role(role);
        assert!(!names.is_empty() && names.iter().all(|name| !name.is_empty()), "{role}: {names:?}");
    }
    assert_eq!(
        browser.evaluate("document.querySelector('#details').closest('[aria-live]').ariaLive"),
        "polite"
    );
}

/// The picture in the documents. With DRAW=1 it is drawn again.
const PICTURE: &str = "docs/reach-page.png";

#[test]
fn picture_of_the_documents_is_small() {
    let mut browser = Browser::open("picture", &page(&["-f", "examples/shop"], ""));
    browser.click("td[aria-label='shop-api/checkout-1 to shop-data/postgres-0: 5432/TCP']");
    draw(&mut browser, PICTURE);
}

/// Draws a picture of the documents again, with DRAW=1. It must be small in any case.
fn draw(browser: &mut Browser, path: &str) {
    let clip = json!({"x": 0, "y": 0, "width": 1280, "height": 640, "scale": 1});
    let data = browser.call("Page.captureScreenshot", json!({"format": "png", "clip": clip}))["data"].clone();
    if std::env::var_os("DRAW").is_some() {
        std::fs::write(project().join(path), decoded(&data)).expect("the picture can be written");
    }
    let picture = std::fs::read(project().join(path)).expect("make pictures draws it");
    assert!(picture.starts_with(b"\x89PNG") && picture.len() < 150_000, "{} bytes", picture.len());
}

/// What base64 stands for.
fn decoded(text: &Value) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = (text.as_str().expect("text").bytes())
        .filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte))
        .map(|place| u32::try_from(place).expect("there are 64"))
        .collect();
    let group = |group: &[u32]| {
        let number = group.iter().fold(0, |number, digit| number << 6 | digit) << (6 * (4 - group.len()));
        number.to_be_bytes()[1..group.len()].to_vec()
    };
    digits.chunks(4).flat_map(group).collect()
}
