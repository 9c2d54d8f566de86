"use strict";
/* Draws the figures, keeps the labels of points apart, copies tables. Without it the tables say the same. */

const PRINTED = { whole: 700, half: 335 }; // widths on an A4 page between its margins, in CSS pixels
const REACHES = [20, 30, 42, 56, 74, 96, 122, 150]; // from a point to the middle of its label
const LED = 30; // a label that is farther away gets a line
const DIRECTIONS = Array.from({ length: 16 }, (_, i) => (i * Math.PI) / 8 - Math.PI / 2);

const figures = [...document.querySelectorAll(".figure")];

function draw(figure) {
  const { data, layout } = JSON.parse(figure.nextElementSibling.textContent);
  layout.width = figure.clientWidth;
  Plotly.newPlot(figure, data, layout, { displayModeBar: false, responsive: false, doubleClick: false });
  settle(figure);
  const caption = figure.parentElement.querySelector("figcaption");
  const save = () => Plotly.downloadImage(figure, { format: "png", scale: 3, setBackground: "opaque", filename: "lingraft",
    width: figure.layout.width, height: figure.layout.height });
  caption.append(button("save picture", save));
}

function fit(figure, width) {
  if (width <= 0 || width === figure.layout.width) return;
  Plotly.relayout(figure, { width });
  settle(figure);
}

/* After each drawing: the labels, and what lets a printer scale the figure. */
function settle(figure) {
  placeLabels(figure);
  const { width, height } = figure.layout;
  figure.style.setProperty("--drawn", `${width} / ${height}`);
  for (const svg of figure.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
}

/* Each label takes the free place that is nearest to its point; a line leads to it where that is far. */
function placeLabels(figure) {
  const { xaxis, yaxis } = figure._fullLayout;
  const labels = (figure.layout.annotations || []).map((annotation, i) => ({ ...annotation, i })).filter(({ name }) => name === "label");
  for (const label of labels) {
    const { width, height } = figure.querySelector(`.annotation[data-index="${label.i}"] .bg`).getBBox();
    Object.assign(label, { width, height, x: xaxis._offset + xaxis.d2p(label.x), y: yaxis._offset + yaxis.d2p(label.y) });
  }
  if (!labels.length) return;
  const plot = { left: xaxis._offset, right: xaxis._offset + xaxis._length, top: yaxis._offset, bottom: yaxis._offset + yaxis._length };
  const at = (x, y) => ({ x: xaxis._offset + xaxis.d2p(x), y: yaxis._offset + yaxis.d2p(y) });
  const upright = (x) => ({ ...plot, left: at(x, 0).x - 1, right: at(x, 0).x + 1 });
  const drawn = (wanted) => figure.data.filter(({ mode }) => mode === wanted).map(({ x, y }) => x.map((value, i) => at(value, y[i])));
  const limits = (figure.layout.shapes || []).map(({ x0 }) => upright(x0));
  const lines = [upright(0), { ...plot, top: at(0, 0).y - 1, bottom: at(0, 0).y + 1 }, ...limits, ...drawn("lines").flatMap(beads)];
  const marks = drawn("markers").flat().map(({ x, y }) => around(x, y, 8, 8));
  const taken = [...labels.map(({ x, y }) => around(x, y, 15, 15)), ...marks];
  const update = {}, placed = [];
  for (const label of labels) {
    let best = { cost: Infinity };
    for (const reach of REACHES) {
      for (const direction of DIRECTIONS) {
        const dx = Math.cos(direction) * (reach + label.width / 2 - 8), dy = Math.sin(direction) * reach;
        const box = around(label.x + dx, label.y + dy, label.width, label.height);
        const hidden = taken.reduce((sum, other) => sum + overlap(box, other), 0) + lines.reduce((sum, other) => sum + overlap(box, other), 0) / 10;
        const outside = label.width * label.height - overlap(box, plot);
        const led = reach > LED ? labels.filter((other) => other !== label && between(label, { dx, dy }, other)).length : 0;
        const astray = reach > LED ? 0 : labels.filter((other) => gap(box, other) < gap(box, label)).length;
        const lead = reach > LED ? beads([label, { x: label.x + dx, y: label.y + dy }]) : [];
        const crossed = placed.filter((other) => lead.some((bead) => overlap(bead, other))).length;
        const cost = reach + 10 * (hidden + outside) + 40 * (led + crossed) + 30 * astray;
        if (cost < best.cost) best = { cost, dx, dy, box, lead, reach };
      }
    }
    taken.push(best.box, ...best.lead);
    placed.push(best.box);
    Object.assign(update, { [`annotations[${label.i}].ax`]: best.dx, [`annotations[${label.i}].ay`]: best.dy });
    update[`annotations[${label.i}].arrowcolor`] = best.reach > LED ? figure.layout.font.color : "rgba(0,0,0,0)";
  }
  Plotly.relayout(figure, update);
}

/* From a point to the edge of a box: a label belongs to the point that is nearest to it. */
function gap(box, { x, y }) {
  return Math.hypot(Math.max(box.left - x, x - box.right, 0), Math.max(box.top - y, y - box.bottom, 0));
}

/* Whether another point lies on the line from a label to its own. */
function between(label, { dx, dy }, other) {
  const along = ((other.x - label.x) * dx + (other.y - label.y) * dy) / (dx * dx + dy * dy);
  return along > 0 && along < 1 && Math.hypot(label.x + along * dx - other.x, label.y + along * dy - other.y) < 7;
}

/* Small boxes on a line through these places. */
function beads(places) {
  return places.slice(1).flatMap((end, i) => {
    const start = places[i], steps = Math.ceil(Math.hypot(end.x - start.x, end.y - start.y) / 4);
    return Array.from({ length: steps }, (_, step) =>
      around(start.x + (end.x - start.x) * step / steps, start.y + (end.y - start.y) * step / steps, 4, 4));
  });
}

function around(x, y, width, height) {
  return { left: x - width / 2, right: x + width / 2, top: y - height / 2, bottom: y + height / 2 };
}

function overlap(a, b) {
  const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
  const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
  return width > 0 && height > 0 ? width * height : 0;
}

function button(text, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text;
  made.addEventListener("click", act);
  return made;
}

/* A table as a spreadsheet takes it: numbers as they were measured, a heading over two columns in both. */
function tsv(table) {
  const grid = [...table.rows].map(() => []);
  [...table.rows].forEach((row, y) => {
    for (const cell of row.cells) {
      const x = [...grid[y], undefined].findIndex((filled) => filled === undefined);
      const text = (cell.dataset.value ?? cell.innerText).replace(/\s+/g, " ").trim();
      for (let below = 0; below < cell.rowSpan; below++) {
        for (let beside = 0; beside < cell.colSpan; beside++) grid[y + below][x + beside] = below ? "" : text;
      }
    }
  });
  return grid.map((row) => row.join("\t")).join("\n");
}

for (const table of document.querySelectorAll(".scroll > table")) {
  const tools = document.createElement("div");
  tools.className = "tools";
  const copy = button("copy table", () => {
    const done = () => { copy.textContent = "copied"; setTimeout(() => { copy.textContent = "copy table"; }, 1500); };
    const select = () => getSelection().selectAllChildren(table); // for the keys, where a page may not copy
    if (navigator.clipboard) navigator.clipboard.writeText(tsv(table)).then(done, select);
    else select();
  });
  tools.append(copy);
  table.parentElement.after(tools);
}

/* A table of many settings: sorted by a heading, and only the lines that hold what is typed. */
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], rows = () => [...body.rows];
  const key = (row, column) => row.cells[column].dataset.value ?? row.cells[column].innerText.trim();
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    heading.dataset.value = heading.innerText.trim(); // what a copy of the table has
    heading.append(" ", button("⇅", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      const order = (a, b) => (key(a, column) === "") - (key(b, column) === "") || (up ? 1 : -1) *
        (key(a, column) - key(b, column) || key(a, column).localeCompare(key(b, column), undefined, { numeric: true }));
      body.append(...rows().sort(order));
    }));
    heading.lastChild.setAttribute("aria-label", `sort by ${heading.firstChild.textContent.trim()}`);
  });
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "filter";
  filter.setAttribute("aria-label", "show only lines with this text");
  filter.addEventListener("input", () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    rows().forEach((row) => { row.hidden = !words.every((word) => row.innerText.toLowerCase().includes(word)); });
  });
  table.parentElement.before(filter);
}

figures.forEach(draw);
const watch = new ResizeObserver((entries) => entries.forEach(({ target }) => fit(target, target.clientWidth)));
figures.forEach((figure) => watch.observe(figure));

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")];
  opened.forEach((details) => { details.open = true; });
  figures.forEach((figure) => fit(figure, figure.closest(".pair, .trio") ? PRINTED.half : PRINTED.whole));
});
addEventListener("afterprint", () => {
  opened.forEach((details) => { details.open = false; });
  figures.forEach((figure) => fit(figure, figure.clientWidth));
});
