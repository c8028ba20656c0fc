// Pause, resume and accept rejections, each after a question. A worker that this server can't control
// is shown with the command that does it.
import { message, post } from "./api.js";
import { command, el, setHidden, setText, table } from "./dom.js";
import { account, reveal, said } from "./explain.js";
import { boot, clock, count, t, word } from "./format.js";

// ask shows a dialog. go performs the action; its error is shown in the dialog.
function ask({ title, danger, action, go }, ...children) {
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const submit = go && el("button", { type: "submit", class: danger ? "danger" : "main", text: t(action) });
  const form = el("form", {}, el("h2", { id: "question", text: title }), ...children, problem,
    el("div", { class: "buttons" }, el("button", { type: "button", text: t(go ? "ui.cancel" : "ui.close"),
      onclick: () => dialog.close() }), submit));
  const dialog = el("dialog", { "aria-labelledby": "question" }, form);
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    submit.disabled = true;
    setHidden(problem, true);
    try {
      await go();
      dialog.close();
    } catch (failure) {
      setText(problem, message(failure));
      setHidden(problem, false);
    }
    submit.disabled = false;
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const options = (w, extra = {}) => {
  const all = new URLSearchParams(extra);
  if (boot.scope === "group") all.set("worker", w.address);
  return all.size > 0 ? `?${all}` : "";
};

const quote = (s) => `'${s.replaceAll("'", `'\\''`)}'`;

// shown shows the command for a worker that only its own machine can reach.
function shown(w, what) {
  const port = /:(\d+)$/.exec(w.address)?.[1] ?? "8780";
  const url = port === "8780" ? "" : ` --admin-url http://127.0.0.1:${port}`;
  return [el("p", { text: t("ui.action.elsewhere", { worker: w.name }) }), command(`markread ${what}${url}`).node];
}

function pause(w) {
  const title = t("ui.pause.title", { worker: w.name || t("ui.this_worker") });
  if (!w.controllable) {
    ask({ title }, ...shown(w, `pause --reason ${quote(t("ui.pause.example"))}`));
    return;
  }
  const reason = el("input", { id: "reason", required: true, maxlength: "200", autocomplete: "off",
    pattern: ".*\\S.*", placeholder: t("ui.pause.example") });
  ask({ title, action: "ui.pause", danger: true,
    go: () => post(`api/pause${options(w, { reason: reason.value.trim() })}`) },
  el("p", { text: t("ui.pause.meaning") }), el("label", { for: "reason", text: t("ui.pause.reason") }), reason);
}

function resume(w) {
  const title = t("ui.resume.title", { worker: w.name || t("ui.this_worker") });
  const held = (w.held ?? []).find((h) => h.reason === "paused");
  const why = [held?.by && t("ui.by", held), held?.why].filter(Boolean).join(": ");
  if (!w.controllable) ask({ title }, ...shown(w, "resume"));
  else {
    ask({ title, action: "ui.resume", go: () => post(`api/resume${options(w)}`) },
      el("p", { text: t("ui.resume.meaning") }), why ? el("p", { class: "quote", text: why }) : null);
  }
}

// accept first shows what would become dead letters.
function accept(w) {
  const title = t("ui.accept.title", { worker: w.name || t("ui.this_worker") });
  if (!w.controllable) {
    ask({ title }, ...shown(w, "resume --accept-rejections"));
    return;
  }
  const events = table("ui.rejected", [
    { head: "ui.at", text: (e) => clock(e.at) },
    { head: "ui.lane", text: (e) => word("ui.lane", e.lane) },
    { head: "ui.code", text: (e) => e.code },
    { head: "ui.message", class: "wide", text: (e) => said("", e.message) },
    { head: "ui.report", text: (e) => account(e.report) },
    { head: "ui.peer", text: (e) => account(e.peer) },
    { head: "ui.origin", text: (e) => (e.topic ? `${e.topic} · ${e.partition} · ${count(e.offset)}` : "–") },
  ], (e) => JSON.stringify([e.topic, e.partition, e.offset, e.at]), "ui.rejected.none");
  const state = el("p", { class: "quiet", role: "status", text: t("ui.loading") });
  let found = [];
  const masks = reveal(() => draw());
  function draw() {
    masks.show();
    events.show(found);
  }
  post("api/rejected", { worker: boot.scope === "group" ? w.address : "" }).then((r) => {
    found = r?.events ?? [];
    draw();
    setText(state, "");
  }).catch((e) => setText(state, message(e)));
  ask({ title, action: "ui.accept", danger: true,
    go: () => post(`api/resume${options(w, { "accept-rejections": "true" })}`) },
    el("p", { text: t("ui.accept.meaning") }),
    el("header", {}, el("h3", { text: t("ui.rejected") }), masks.node), state,
    el("div", { class: "cards" }, events.node));
}

// What ends a hold. The banner has it too, for the first worker with the hold.
const releaseOf = { paused: ["resume", resume], rejections: ["accept", accept] };

export function releases() {
  let worker = null;
  const buttons = Object.entries(releaseOf).map(([reason, [name, go]]) => el("button", { type: "button",
    class: "small", "data-reason": reason, text: t(`ui.${name}`), onclick: () => go(worker) }));
  const node = el("span", {}, ...buttons);
  return { node, show(reason, workers) {
    worker = boot.controls ? workers.find((w) => isHeld(w, reason)) ?? null : null;
    for (const b of buttons) setHidden(b, !worker || b.dataset.reason !== reason);
    setHidden(node, !worker || !Object.hasOwn(releaseOf, reason));
  } };
}

const isHeld = (w, reason) => (w.held ?? []).some((h) => h.reason === reason);

// actions is a column of the table of workers: the buttons stay the same nodes.
export const actions = {
  make: (item, current) => [["pause", pause], ["resume", resume], ["accept", accept]].map(([name, go]) =>
    el("button", { type: "button", class: "small", "data-action": name, text: t(`ui.${name}`), hidden: true,
      "aria-label": `${t(`ui.${name}`)}: ${item.name || t("ui.this_worker")}`, onclick: () => go(current()) })),
  update(cell, w) {
    const paused = isHeld(w, "paused");
    const visible = { pause: !paused && w.state !== "silent", resume: paused, accept: isHeld(w, "rejections") };
    for (const button of cell.children) setHidden(button, !visible[button.dataset.action]);
  },
};
