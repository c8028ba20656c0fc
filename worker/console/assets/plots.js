// The plots: five on one time axis, with a common cursor, and marks where something happened.
/* global uPlot */
import { card, el, setClass, setText } from "./dom.js";
import { age, clock, count, minute, rate, short, t, wallClock, zoneOf } from "./format.js";

const spans = { "15m": 900, "1h": 3600, "24h": 86400 };
const asked = (range) => (range === "24h" ? "24h" : "1h"); // the server knows these
const narrow = () => matchMedia("(max-width: 40rem)").matches;

// The series of a plot, from the top of its legend to the bottom. stack: areas on top of each other;
// line: a line; dash: a bound. value(i) may compute from several series.
const plots = [
  { name: "calls", format: rate, height: 120, floor: 10, series: [
    ["rate", "dash", "quiet", ["quota.rate"]], ["limit", "line", "text", ["quota.limit"]],
    ["rejected", "stack", "c5", ["calls.rejected"]], ["held", "stack", "c4", ["calls.held"]],
    ["throttled", "stack", "c3", ["calls.throttled"]], ["transient", "stack", "c2", ["calls.transient"]],
    ["ok", "stack", "c1", ["calls.ok"]]] },
  { name: "events", format: rate, height: 120, floor: 10, series: [
    ["in", "line", "text", ["in.live", "in.backfill"]],
    ["dead_lettered", "stack", "c5", ["out.dead_lettered"]], ["superseded", "stack", "c4", ["out.superseded"]],
    ["collapsed", "stack", "c3", ["out.collapsed"]], ["applied", "stack", "c1", ["out.applied"]]] },
  { name: "age", format: age, height: 120, log: true, series: [
    ["p99", "line", "c1", ["age.live.p99"]], ["p50", "line", "c3", ["age.live.p50"]],
    ["backfill_p99", "dash", "c1", ["age.backfill.p99"]], ["backfill_p50", "dash", "c3", ["age.backfill.p50"]]] },
  { name: "backlog", format: count, axis: short, height: 96, floor: 10, series: [
    ["max", "dash", "quiet", ["backlog.max"]], ["backfill", "stack", "c3", ["backlog.backfill"]],
    ["live", "stack", "c1", ["backlog.live"]]] },
  { name: "letters", format: rate, height: 84, floor: 1, series: [["letters", "stack", "c5", ["letters"]]] },
];

const kinds = {
  "hold-began": ["bad", "▼"], "trouble-began": ["bad", "▼"], "lost": ["bad", "▼"],
  "silent": ["bad", "▼"], "slowed": ["warn", "▼"],
  "hold-ended": ["good", "△"], "trouble-ended": ["good", "△"], "responding": ["good", "△"],
  "recovered": ["good", "△"], "command": ["accent", "◆"],
};
export const markClass = (kind) => (kinds[kind] ?? ["quiet"])[0];
export const markSign = (kind) => (kinds[kind] ?? ["", "●"])[1];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// sum adds series point by point; null is a gap only if all are.
function sum(list, length) {
  return Array.from({ length }, (_, i) => list.reduce((total, s) => (s?.[i] ?? null) === null ? total
    : (total ?? 0) + s[i], null));
}

// columns returns the values of each series, and what is drawn: the areas of a stack are drawn from the
// highest sum down, so that each shows its own share.
function columns(plot, points, length) {
  const raw = plot.series.map(([, , , names]) => sum(names.map((n) => points.series[n]), length)
    .map((v) => (plot.log && v !== null && v <= 0 ? null : v)));
  const drawn = plot.series.map(([, kind], k) => (kind !== "stack" ? raw[k]
    : sum(raw.filter((_, j) => j >= k && plot.series[j][1] === "stack"), length)));
  return { raw, drawn };
}

const logTicks = [0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 864000];

// range of the values: a bound is in view only if the values come near it, otherwise they would be flat.
function range(plot, drawn) {
  const most = (k) => (drawn[k] ?? []).reduce((a, b) => Math.max(a, b ?? 0), 0);
  const all = plot.series.map((_, k) => most(k));
  const values = all.filter((_, k) => plot.series[k][1] !== "dash" || plot.log);
  const top = Math.max(plot.floor ?? 0, ...values);
  if (plot.log) {
    const least = drawn.flat().reduce((a, b) => Math.min(a, b ?? a), top || 1);
    return [logTicks.findLast((v) => v < least) ?? least, logTicks.find((v) => v > top * 1.2) ?? top * 2];
  }
  const bound = Math.max(0, ...all.filter((_, k) => plot.series[k][1] === "dash"));
  return [0, Math.max(top, bound <= top * 4 || plot.name === "calls" ? bound : 0) * 1.08];
}

function createPlot(plot, state, last) {
  const values = plot.series.map(() => el("b"));
  const legend = el("ul", { class: "legend" }, ...plot.series.map(([name, kind, shade], k) => el("li", {},
    el("i", { class: `swatch ${kind} ${shade}`, "aria-hidden": "true" }), `${t(`ui.plot.${plot.name}.${name}`)} `,
    values[k])));
  const box = el("div", { class: "plot" });
  const height = plot.height + (last ? 24 : 0);
  box.style.height = `${height}px`; // the page doesn't jump when the first points arrive
  const node = el("figure", {}, el("figcaption", {}, el("h3", { text: t(`ui.plot.${plot.name}`) }), legend), box);
  let [chart, data] = [null, { raw: [], drawn: [] }];
  let length = 0;
  const series = () => plot.series.map(([, kind, shade]) => ({
    stroke: colour(shade), width: kind === "stack" ? 0 : 1.5, dash: kind === "dash" ? [4, 4] : undefined,
    fill: kind === "stack" ? colour(`${shade}-fill`) : undefined, points: { show: false }, spanGaps: false,
  }));
  const axis = { stroke: colour("quiet"), font: "11px system-ui, sans-serif", ticks: { show: false },
    grid: { stroke: colour("line"), width: 1 } };
  const format = plot.axis ?? plot.format;
  const options = () => ({
    width: Math.max(200, box.clientWidth), height, legend: { show: false },
    padding: [8, 8, last ? 0 : 6, 0], tzDate: wallClock,
    cursor: { sync: { key: "markread" }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
    scales: { x: { range: () => [state.from, state.to] },
      y: { distr: plot.log ? 3 : 1, range: () => range(plot, data.drawn) } },
    series: [{}, ...series()],
    axes: [
      { ...axis, stroke: colour("quiet"), size: last ? 24 : 0, space: 70,
        values: (u, splits) => splits.map((s) => (last ? minute(s) : "")) },
      { ...axis, stroke: colour("quiet"), size: narrow() ? 46 : 58, space: 26,
        splits: plot.log ? (u, i, low, high) => logTicks.filter((v) => v >= low && v <= high) : undefined,
        filter: plot.log ? (u, splits) => splits.filter((v) => v) : undefined,
        values: (u, splits) => splits.map((v) => (v === null ? "" : format(v))) },
    ],
    hooks: { draw: [marks], setCursor: [(u) => state.point(u.cursor.idx, u.cursor.left)] },
  });
  // marks draws a line at each thing that happened; its sign is on top of the first plot.
  function marks(u) {
    const { ctx } = u;
    const { top, height, left, width } = u.bbox;
    ctx.save();
    ctx.textAlign = "center";
    ctx.font = `${9 * devicePixelRatio}px sans-serif`;
    for (const h of state.happened) {
      const x = Math.round(u.valToPos(Date.parse(h.at) / 1000, "x", true)) + 0.5;
      if (x < left || x > left + width) continue;
      ctx.strokeStyle = ctx.fillStyle = colour(markClass(h.kind));
      ctx.globalAlpha = markClass(h.kind) === "quiet" ? 0.4 : 1; // rebalances are many, and rarely news
      ctx.setLineDash(h.kind === "hold-began" || h.kind === "lost" ? [] : [3, 3]);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(x, top);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      if (plot === plots[0]) ctx.fillText(markSign(h.kind), x, top);
    }
    ctx.restore();
  }
  return {
    node,
    build() {
      chart?.destroy();
      chart = new uPlot(options(), [state.times, ...data.drawn], box);
    },
    resize() {
      const width = box.clientWidth;
      if (chart && width > 0 && width !== chart.width) chart.setSize({ width, height });
    },
    set(points) {
      length = state.times.length;
      data = columns(plot, points, length);
      if (!chart) this.build();
      else chart.setData([state.times, ...data.drawn]);
    },
    // move puts the cursor of all plots at an index.
    move(index) {
      chart?.setCursor({ left: chart.valToPos(state.times[index], "x"), top: 9 }, true, true);
    },
    // point shows the values at an index; without one, the latest.
    point(index) {
      data.raw.forEach((column, k) => setText(values[k], plot.format(column[index ?? length - 1] ?? null)));
    },
  };
}

export function createPlots(onRange, happened) {
  const state = { range: "1h", from: 0, to: 0, times: [], happened: [], point };
  const list = plots.map((p, i) => createPlot(p, state, i === plots.length - 1));
  const buttons = Object.keys(spans).map((r) => el("button", { type: "button", "aria-pressed": String(r === "1h"),
    text: t(`ui.range.${r}`), onclick: () => {
      state.range = r;
      buttons.forEach((b) => b.setAttribute("aria-pressed", String(b === buttons[Object.keys(spans).indexOf(r)])));
      onRange(asked(r));
    } }));
  const readout = el("p", { class: "readout" });
  const legend = el("ul", { class: "legend" }, ...["hold-began", "hold-ended", "command", "started"].map((kind) =>
    el("li", {}, el("span", { class: `mark ${markClass(kind)}`, text: markSign(kind), "aria-hidden": "true" }),
      ` ${t(`ui.mark.${kind}`)}`)));
  const figures = el("div", { tabindex: "0", role: "group", "aria-label": t("ui.plots.keys"), onkeydown: (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
    if (!step || state.times.length === 0) return;
    e.preventDefault();
    const end = state.times.length - 1;
    list[0].move(Math.min(end, Math.max(0, (visible?.index ?? end) + step * (e.shiftKey ? 12 : 1))));
  } }, ...list.map((p) => p.node));
  const node = card("ui.plots", readout, figures, el("footer", {}, legend));
  node.firstElementChild.append(el("div", { class: "switch", role: "group", "aria-label": t("ui.range") }, ...buttons));
  let visible = null;

  // point shows the moment under the cursor, and what happened near it.
  function point(index, x = -1) {
    if (index === visible?.index && x === visible?.x) return;
    visible = { index, x };
    list.forEach((p) => p.point(index));
    const at = index === null || index === undefined || x < 0 ? null : state.times[index];
    const near = at === null ? [] : state.happened.filter((h) =>
      Math.abs(Date.parse(h.at) / 1000 - at) <= spans[state.range] / 240).slice(0, 2);
    setText(readout, at === null ? t("ui.plots.zone", { zone: zoneOf() })
      : [`${clock(at)} ${zoneOf(at)}`, ...near.map((h) => `${clock(h.at)} ${happened(h)}`)].join(" · "));
    setClass(readout, near.length > 0 ? "readout near" : "readout");
  }

  const rebuild = () => {
    if (state.times.length > 0) list.forEach((p) => p.build());
    visible = null;
    point(null);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);
  addEventListener("zone", rebuild);
  new ResizeObserver(() => list.forEach((p) => p.resize())).observe(node);
  return { node, show(o, history) {
    const points = history.points;
    if (points === null) setText(readout, t("ui.plots.none"));
    if (points === null || history.range !== asked(state.range)) return;
    const any = Object.values(points.series)[0] ?? [];
    state.happened = o.happened;
    state.times = any.map((_, i) => points.first + i * points.step);
    state.to = Math.max(Date.parse(o.at) / 1000, state.times.at(-1) ?? 0);
    // A short history fills the plots, too; but a minute would look like a trend.
    const known = Object.values(points.series).map((s) => s.findIndex((v) => v !== null)).filter((i) => i >= 0);
    const span = spans[state.range];
    const shown = state.to - (state.times[Math.min(...known)] ?? state.to);
    state.from = state.to - Math.min(span, Math.max(span / 6, shown));
    list.forEach((p) => p.set(points));
    list.forEach((p) => p.point(visible?.index));
    if (!(visible?.index >= 0)) setText(readout, t("ui.plots.zone", { zone: zoneOf() }));
  } };
}
