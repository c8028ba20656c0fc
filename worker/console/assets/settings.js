// Settings: the values in force, where each comes from, and where workers differ.
import { get, message } from "./api.js";
import { card, el, setText, table } from "./dom.js";
import { ago, t, word } from "./format.js";

// source says where a value comes from: default, flag, the variable's name, or the workers.
const source = (s) => s.from || (s.source ? word("setting", s.source) : t("ui.workers"));

function value(s) {
  if (s.secret) {
    if (!s.secret.set) return [["quiet", t("ui.secret.unset")]];
    const changed = s.secret.changed_at ? t("ui.secret.changed", { age: ago(s.secret.changed_at, new Date()) }) : "";
    return [["", [t("ui.secret.set"), t(`ui.secret.${s.secret.source}`), changed].filter(Boolean).join(" · ")]];
  }
  const all = Object.entries(s.values ?? {});
  const same = s.value || all[0]?.[1];
  if (!s.differs) return [[same ? "mono" : "quiet", same || t("ui.empty")]];
  return [["badge warn", t("ui.differs")], ...all.map(([worker, v]) => ["line mono", `${worker}: ${v}`])];
}

export function createSettings() {
  const status = el("p", { class: "quiet", role: "status" });
  const rows = table("ui.settings", [
    { head: "ui.setting", class: "name", parts: (s) => [["mono", s.name]] },
    { head: "ui.value", class: "wide", parts: value },
    { head: "ui.source", parts: (s) => [[s.source === "default" ? "quiet" : "", source(s)]] },
  ], (s) => s.name, "ui.settings.none");
  const values = card("ui.settings.effective",
    el("p", { class: "quiet", text: t("ui.settings.meaning") }), status, rows.node);
  values.classList.add("lines");
  const node = el("div", { class: "stack" }, el("h1", { text: t("ui.settings") }), values);
  return { node, title: () => t("ui.settings"), show() {}, async open() {
    try {
      const r = await get("api/settings");
      // Those that differ are first: they are what the reader looks for.
      rows.show([...r.settings].sort((a, b) => Number(b.differs ?? false) - Number(a.differs ?? false)));
      setText(status, "");
    } catch (e) {
      setText(status, message(e));
    }
  } };
}
