// The console in the browser: figures that the server sends each second go into the elements that name them.
// No state of its own beyond five minutes of points for the live charts; without scripts the page stays readable.
"use strict";

const POINTS_MAX = 300;
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const palette = ["--one", "--two", "--three", "--go", "--stop"];

function at(object, path) {
  return path.split(".").reduce((value, name) => (value == null ? value : value[name]), object);
}

const shapes = {
  count: (value) => Math.round(value).toLocaleString("en-US"),
  rate: (value) => value.toLocaleString("en-US", { maximumFractionDigits: 0 }),
  one: (value) => value.toLocaleString("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 }),
  shares: (value) =>
    Object.entries(value).sort().map(([version, share]) => `v${version} ${Math.round(share * 100)}%`).join(", ") || "-",
  text: (value) => String(value),
};

function show(look) {
  for (const element of document.querySelectorAll("[data-figure]")) {
    const [scope, path] = element.dataset.figure.split("|");
    const source = scope === "audit" ? look.audit : look.endpoints.find((each) => each.endpoint === scope);
    const value = source && at(source, path);
    if (value == null) { element.textContent = "-"; continue; }
    element.textContent = shapes[element.dataset.shape || "text"](value);
    if (element.dataset.state !== undefined) element.className = `state state-${value}`;
  }
  document.body.dataset.looks = String(Number(document.body.dataset.looks || 0) + 1);
}

function axes(unit) {
  const faint = style("--faint"), line = style("--line");
  const common = { stroke: faint, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  return [common, { ...common, size: 78, values: (_, values) => values.map((v) => v.toLocaleString("en-US") + unit) }];
}

function chart(element, labels, data, unit) {
  const series = [{}, ...labels.map((label, index) => (
    { label, stroke: style(palette[index % palette.length]), width: 2, spanGaps: false, points: { show: data[0].length < 40 } }))];
  const size = () => ({ width: element.clientWidth - 20, height: 190 });
  const plot = new uPlot({ ...size(), series, axes: axes(unit), scales: { y: { range: (_, low, high) => [Math.min(0, low), (high || 1) * 1.08] } } }, data, element);
  new ResizeObserver(() => plot.setSize(size())).observe(element);
  return plot;
}

function windowCharts() {
  for (const element of document.querySelectorAll("[data-chart]")) {
    const given = JSON.parse(document.getElementById(element.dataset.chart).textContent);
    if (given.times.length) chart(element, given.labels, [given.times, ...given.values], given.unit);
    else element.insertAdjacentHTML("beforeend", '<p class="note">No window yet.</p>');
  }
}

function liveCharts() {
  const plots = [...document.querySelectorAll("[data-live]")].map((element) => {
    const paths = element.dataset.live.split(" ");
    const data = [[], ...paths.map(() => [])];
    return { name: element.dataset.endpoint, paths, data, plot: chart(element, element.dataset.labels.split(" "), data, element.dataset.unit) };
  });
  return (look, seconds) => {
    for (const { name, paths, data, plot } of plots) {
      const source = look.endpoints.find((each) => each.endpoint === name);
      if (!source) continue;
      data[0].push(seconds);
      paths.forEach((path, index) => data[index + 1].push(at(source, path) ?? null));
      for (const column of data) if (column.length > POINTS_MAX) column.shift();
      plot.setData(data);
    }
  };
}

function listen() {
  const source = document.body.dataset.stream;
  if (!source) return;
  const draw = liveCharts(), lost = document.getElementById("lost");
  const events = new EventSource(source);
  events.addEventListener("look", (event) => {
    lost.textContent = "";
    const look = JSON.parse(event.data);
    show(look);
    draw(look, Date.now() / 1000);
  });
  events.addEventListener("away", (event) => { lost.textContent = JSON.parse(event.data).detail; });
  events.onerror = () => { lost.textContent = "The server does not answer; trying again."; };
}

windowCharts();
listen();
