"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
// The matrix that is shown. The page of a node has two: what its pods reach, and what reaches them.
let matrix = data.matrices[0] || { sources: [], destinations: [], cells: [] };
const by = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const state = { source: "", destination: "", namespace: "", view: "matrix", pair: null };

// Element with text and children; text is never read as HTML.
function element(name, attributes, ...children) {
  const node = name.startsWith("svg:") ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  for (const child of children) node.append(child);
  return node;
}

const cell = (from, to) => matrix.cells[from * matrix.destinations.length + to];
const words = entry => entry === null ? "no pair" : data.words[entry[0]].join(", ") || "nothing";
const kind = entry => entry === null ? "pair0" : data.words[entry[0]].length === 0 ? "none"
  : data.words[entry[0]].length === 1 && data.words[entry[0]][0] === "all" ? "all" : "some";
const label = (from, to) => `${matrix.sources[from].name} to ${matrix.destinations[to].name}: ${words(cell(from, to))}`;

// The places of the ends whose names contain a text.
function containing(ends, text) {
  const places = ends.map((end, place) => place);
  return places.filter(place => ends[place].name.toLowerCase().includes(text.toLowerCase()));
}
function inNamespace(from, to) {
  return !state.namespace || matrix.sources[from].namespace === state.namespace
    || matrix.destinations[to].namespace === state.namespace;
}
function lines() {
  const rows = containing(matrix.sources, state.source), columns = containing(matrix.destinations, state.destination);
  const rowHas = row => columns.some(column => inNamespace(row, column));
  const columnHas = column => rows.some(row => inNamespace(row, column));
  return state.namespace ? [rows.filter(rowHas), columns.filter(columnHas)] : [rows, columns];
}

function drawMatrix() {
  const [rows, columns] = lines();
  const head = element("tr", {}, element("th", { scope: "col" }, "from \\ to"));
  for (const column of columns) head.append(element("th", { scope: "col", title: matrix.destinations[column].name },
    element("span", {}, matrix.destinations[column].name)));
  const body = element("tbody"), pattern = element("td", { tabindex: -1 });
  rows.forEach((row, y) => {
    const line = element("tr", {}, element("th", { scope: "row", title: matrix.sources[row].name }, matrix.sources[row].name));
    columns.forEach((column, x) => {
      const entry = inNamespace(row, column) ? cell(row, column) : null;
      const mark = { none: "·", some: "◐", all: "●", pair0: "" }[kind(entry)];
      const square = pattern.cloneNode();
      square.className = kind(entry);
      square.setAttribute("aria-label", label(row, column));
      square.setAttribute("data-at", `${y},${x}`);
      square.setAttribute("data-pair", `${row},${column}`);
      square.textContent = mark;
      line.append(square);
    });
    body.append(line);
  });
  const table = element("table", { role: "grid", "aria-label": "Who can reach whom" }, element("thead", {}, head), body);
  table.addEventListener("click", event => select(event.target.closest("td")));
  table.addEventListener("keydown", move);
  // Titles are set when they are needed: there are many cells.
  table.addEventListener("pointerover", event => { const square = event.target.closest("td"); if (square) square.title = square.ariaLabel; });
  const first = body.querySelector("td");
  if (first) first.tabIndex = 0;
  if (rows.length && columns.length) by("view").replaceChildren(table); else nothingLeft();
  by("count").textContent = `${rows.length} sources, ${columns.length} destinations${matrix.remark || ""}`;
}

function nothingLeft() {
  by("view").replaceChildren(element("p", {}, matrix.cells.length ? "No names contain these texts." : data.note || "There is nothing to show."));
}

function move(event) {
  const square = event.target.closest("td");
  if (!square) return;
  const [y, x] = square.dataset.at.split(",").map(Number);
  const width = square.parentElement.cells.length - 1;
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -x], End: [0, width - 1 - x] };
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(square); return; }
  if (!(event.key in steps)) return;
  event.preventDefault();
  const [down, right] = steps[event.key];
  const next = document.querySelector(`td[data-at="${y + down},${x + right}"]`);
  if (!next || next === square) return;
  square.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function drawGraph() {
  const [rows, columns] = lines();
  const names = new Map();
  const add = end => names.set(end.name, end.namespace || "");
  rows.forEach(row => add(matrix.sources[row]));
  columns.forEach(column => add(matrix.destinations[column]));
  const groups = new Map();
  for (const [name, namespace] of names) groups.set(namespace, [...(groups.get(namespace) || []), name]);
  const place = new Map();
  const svg = element("svg:svg", { role: "group", "aria-label": "Graph of connections" });
  const WIDTH = 300, LINE = 26, GAP = 90;
  let x = 20, height = 0;
  for (const [namespace, members] of [...groups].sort()) {
    const box = element("svg:rect", { class: "group", x, y: 30, width: WIDTH, height: members.length * LINE + 16, rx: 6 });
    svg.append(box, element("svg:text", { x: x + 8, y: 22, "font-weight": "bold" }, namespace || "outside"));
    members.forEach((name, index) => {
      const y = 56 + index * LINE;
      place.set(name, [x, y]);
      const short = namespace && name.startsWith(namespace + "/") ? name.slice(namespace.length + 1) : name;
      svg.append(element("svg:text", { x: x + 12, y }, short.length > 40 ? short.slice(0, 39) + "…" : short));
    });
    height = Math.max(height, members.length * LINE + 60);
    x += WIDTH + GAP;
  }
  let edges = 0;
  for (const row of rows) for (const column of columns) {
    const entry = inNamespace(row, column) ? cell(row, column) : null;
    if (kind(entry) !== "some" && kind(entry) !== "all") continue;
    if (kind(entry) === "all" && !matrix.destinations[column].isolated && !matrix.sources[row].isolated) continue;
    const [fromX, fromY] = place.get(matrix.sources[row].name), [toX, toY] = place.get(matrix.destinations[column].name);
    const [startX, endX] = fromX < toX ? [fromX + WIDTH, toX] : fromX > toX ? [fromX, toX + WIDTH] : [fromX + WIDTH, toX + WIDTH];
    const bend = fromX === toX ? 60 : (endX - startX) / 2;
    const curve = `M${startX},${fromY - 4} C${startX + bend},${fromY - 4} ${fromX === toX ? endX + bend : endX - bend},${toY - 4} ${endX},${toY - 4}`;
    const path = element("svg:path", { d: curve, class: kind(entry), tabindex: 0, role: "button", "aria-label": label(row, column) },
      element("svg:title", {}, label(row, column)));
    path.dataset.pair = `${row},${column}`;
    path.addEventListener("click", () => select(path));
    path.addEventListener("keydown", event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(path); } });
    svg.append(path);
    edges += 1;
  }
  svg.setAttribute("width", x);
  svg.setAttribute("height", height);
  by("view").replaceChildren(svg);
  by("count").textContent = `${edges} connections; those between ends that no policy isolates are not drawn${matrix.remark || ""}`;
}

function side(title, reason) {
  const list = element("div", {}, element("h3", {}, title));
  if (reason === null) { list.append(element("p", {}, "Policies do not govern this side.")); return list; }
  if (!reason.isolating.length) { list.append(element("p", {}, "No policy isolates it: everything is allowed.")); return list; }
  list.append(element("p", {}, "Isolated by:"));
  list.append(element("ul", {}, ...reason.isolating.map(name => element("li", {}, element("code", {}, name)))));
  if (!reason.allowing.length) { list.append(element("p", {}, "None of their rules allows this peer.")); return list; }
  list.append(element("p", {}, "Rules that allow this peer:"));
  list.append(element("ul", {}, ...reason.allowing.map(rule => element("li", {}, element("code", {}, rule.rule), `: ${rule.ports}`))));
  return list;
}

function select(target) {
  if (!target || !target.dataset.pair) return;
  for (const marked of document.querySelectorAll('td[aria-selected="true"]')) marked.removeAttribute("aria-selected");
  if (target.localName === "td") target.setAttribute("aria-selected", "true");
  const [from, to] = target.dataset.pair.split(",").map(Number);
  show(from, to);
}

function show(from, to) {
  const entry = cell(from, to);
  if (entry === null) return;
  state.pair = [from, to];
  const verdict = words(entry);
  by("details").replaceChildren(
    element("h2", {}, `${matrix.sources[from].name} → ${matrix.destinations[to].name}`),
    element("p", {}, "Allowed: ", element("code", {}, verdict)),
    side("Egress of the source", entry[1] === null ? null : data.reasons[entry[1]]),
    side("Ingress of the destination", entry[2] === null ? null : data.reasons[entry[2]]));
  history.replaceState(null, "", "#" + new URLSearchParams({ from: matrix.sources[from].name, to: matrix.destinations[to].name }));
}

function draw() {
  for (const view of ["matrix", "graph"]) by(view).setAttribute("aria-pressed", String(state.view === view));
  if (!matrix.cells.length) nothingLeft(); else if (state.view === "matrix") drawMatrix(); else drawGraph();
}

const ends = data.matrices.flatMap(one => [...one.sources, ...one.destinations]);
const namespaces = new Set(ends.map(end => end.namespace).filter(Boolean));
for (const namespace of [...namespaces].sort()) by("namespace").append(element("option", { value: namespace }, namespace));
for (const end of ["source", "destination"])
  by(end).addEventListener("input", event => { state[end] = event.target.value.trim(); draw(); });
by("namespace").addEventListener("change", event => { state.namespace = event.target.value; draw(); });
for (const view of ["matrix", "graph"]) by(view).addEventListener("click", () => { state.view = view; draw(); });
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.classList.contains("dark") || !root.classList.contains("light") && matchMedia("(prefers-color-scheme: dark)").matches;
  root.classList.toggle("dark", !dark);
  root.classList.toggle("light", dark);
});
if (data.matrices.length > 1) {
  const choice = by("view-choice");
  data.matrices.forEach((one, place) => choice.append(element("option", { value: place }, one.title)));
  choice.addEventListener("change", () => { matrix = data.matrices[Number(choice.value)]; draw(); });
  by("sides").hidden = false;
}
const asked = new URLSearchParams(location.hash.slice(1));
if (asked.has("namespace")) { state.namespace = asked.get("namespace"); by("namespace").value = state.namespace; }
if (asked.get("view") === "graph") state.view = "graph";
draw();
if (asked.has("from") && asked.has("to")) {
  const from = matrix.sources.findIndex(end => end.name === asked.get("from"));
  const to = matrix.destinations.findIndex(end => end.name === asked.get("to"));
  if (from >= 0 && to >= 0) show(from, to);
}
