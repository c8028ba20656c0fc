// Replay: a plan, the number of dead letters typed again, its progress, and stop.
import { message, post } from "./api.js";
import { card, command, el, setFacts, setHidden, setText } from "./dom.js";
import { clockWithZone, count, rate, t, word } from "./format.js";

// obstacles are the numbers of dead letters that stay open, by reason.
const obstacles = (all) => Object.entries(all ?? {}).filter(([, n]) => n > 0)
  .map(([name, n]) => [word("ui.obstacle", name), count(n)]);

export function createReplay(filter, replayCommand, ended) {
  let [plan, seen] = [null, ""];
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  // act performs a step; while it runs, its button is disabled.
  const act = (button, go) => async () => {
    button.disabled = true;
    setHidden(problem, true);
    try {
      await go();
    } catch (e) {
      setText(problem, message(e));
      setHidden(problem, false);
    }
    button.disabled = false;
    check();
  };
  const make = el("button", { type: "button", class: "main", text: t("ui.replay.plan") });
  const facts = el("dl", { class: "facts" });
  const typed = el("input", { id: "retype", inputmode: "numeric", autocomplete: "off", oninput: () => check() });
  const label = el("label", { for: "retype" });
  const start = el("button", { type: "submit", class: "danger", text: t("ui.replay.start") });
  const line = command();
  const nothing = el("p", { role: "status" });
  const wrong = el("p", { class: "quiet", role: "status" });
  const question = el("div", { class: "inline" }, label, typed, start, wrong);
  const form = el("form", { hidden: true }, nothing, facts, line.node, question);
  const stop = el("button", { type: "button", class: "danger", text: t("ui.replay.stop") });
  const bar = el("progress", { "aria-label": t("ui.replay.progress") });
  const state = el("p", { role: "status" });
  const left = el("dl", { class: "facts" });
  const progress = el("div", { class: "progress", hidden: true }, state, bar, left, stop);
  const node = card("ui.replay", el("p", { class: "quiet", text: t("ui.replay.meaning") }), make, form,
    progress, problem);

  const check = () => {
    const text = typed.value.trim();
    start.disabled = !plan || plan.letters === 0 || text !== String(plan.letters);
    setText(wrong, plan && text !== "" && start.disabled
      ? t("ui.replay.mismatch", { typed: text, count: plan.letters }) : "");
  };
  make.addEventListener("click", act(make, async () => {
    plan = await post("api/replay/plan", filter());
    setFacts(facts, [
      [t("ui.letters"), count(plan.letters)], [t("ui.conversations"), count(plan.conversations)],
      [t("ui.replay.minutes"), plan.minutes !== null && plan.minutes < 0.1 ? "< 0.1" : rate(plan.minutes)],
      [t("ui.replay.to"), plan.to],
      [t("ui.replay.parked"), plan.parked_skipped > 0 ? count(plan.parked_skipped) : ""],
      [t("ui.replay.unread"), plan.unread_skipped > 0 ? count(plan.unread_skipped) : ""],
      ...obstacles(plan.obstacles),
    ]);
    setText(label, t("ui.replay.retype", { count: plan.letters }));
    setHidden(question, plan.letters === 0);
    setText(nothing, plan.letters === 0 ? t("ui.replay.nothing") : "");
    line.show(plan.letters > 0 ? replayCommand() ?? "" : "");
    typed.value = "";
    setHidden(form, false);
    if (plan.letters > 0) typed.focus();
  }));
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    act(start, async () => {
      const began = await post("api/replay/start", { plan: plan.plan, count: Number(typed.value) });
      drop();
      show({ replay: began });
    })();
  });
  stop.addEventListener("click", act(stop, () => post("api/replay/stop", {})));

  // drop forgets the plan: the list that it was for has changed.
  function drop() {
    plan = null;
    setHidden(form, true);
  }
  // show follows the replay of the overview, which everyone sees.
  function show({ replay: r }) {
    setHidden(progress, !r);
    const before = seen;
    seen = r ? `${r.started_at} ${r.state}` : "none";
    make.disabled = r?.state === "running";
    if (!r) return;
    // The list has changed; a short replay was never seen running.
    if (before !== "" && before !== seen && r.state !== "running") ended();
    setText(state, [t(`ui.replay.${r.state}`, r), t("ui.replay.done_of", r), r.by && t("ui.by", r),
      clockWithZone(r.started_at), r.error].filter(Boolean).join(" · "));
    setFacts(left, obstacles(r.obstacles));
    if (bar.max !== r.of && r.of > 0) bar.max = r.of;
    if (bar.value !== r.letters) bar.value = r.letters;
    setHidden(stop, r.state !== "running");
  }
  return { node, drop, show };
}
