// A conversation: two accounts, sent by POST, so that they are in no URL and in no proxy's log.
import { message, post } from "./api.js";
import { letterColumns } from "./deadletters.js";
import { card, command, el, setFacts, setHidden, setText, table } from "./dom.js";
import { codeText, reveal, said } from "./explain.js";
import { boot, clockWithZone, count, t, word } from "./format.js";

export function createConversation() {
  const field = (name) => el("div", {}, el("label", { for: `c-${name}`, text: t(`ui.${name}`) }),
    el("input", { id: `c-${name}`, name, required: true, autocomplete: "off", spellcheck: "false" }));
  const button = el("button", { type: "submit", class: "main", text: t("ui.conversation.find") });
  const form = el("form", { class: "filter" }, field("report"), field("peer"),
    el("div", { class: "buttons" }, button));
  const status = el("p", { class: "quiet", role: "status" });
  const facts = el("dl", { class: "facts" });
  const note = el("p", { class: "quiet" });
  const line = command();
  const letters = table("ui.letters", letterColumns, (l) => l.id, "ui.conversation.no_letters");
  const masks = reveal(() => draw());
  const lettersCard = card("ui.letters", letters.node);
  lettersCard.firstElementChild.append(masks.node);
  const result = el("div", { class: "stack", hidden: true },
    card("ui.conversation.state", facts, note, line.node), lettersCard);
  const node = el("div", { class: "stack" }, el("h1", { text: t("ui.conversation") }),
    card("ui.conversation.which", el("p", { class: "quiet", text: t("ui.conversation.meaning") }), form, status),
    result);
  let found = null;

  function draw() {
    masks.show();
    if (!found) return;
    const { partition: p, waiting: w, applied: a, ...c } = found;
    setFacts(facts, [
      [t("ui.report"), c.report], [t("ui.peer"), c.peer],
      [t("ui.partition"), p ? `${p.topic} · ${p.partition}` : t("ui.unknown")],
      [t("ui.owner"), c.here && boot.scope === "worker" ? t("ui.this_worker") : c.owner || t("ui.unknown")],
      [t("ui.waiting"), w ? t("ui.waiting.events", { ...w, lane: word("ui.lane", w.lane) })
        : t(c.here ? "ui.waiting.none" : "ui.unknown")],
      [t("ui.in_flight"), w ? t(w.in_flight ? "ui.yes" : "ui.no") : ""],
      [t("ui.attempts"), w ? count(w.attempts) : ""],
      [t("ui.failure"), w?.code ? [codeText(w.code), said(w.code, w.message)].filter(Boolean).join("; ") : ""],
      [t("ui.retry_at"), w?.retry_at ? clockWithZone(w.retry_at) : ""],
      [t("ui.since"), w?.since ? clockWithZone(w.since) : ""],
      [t("ui.read_time.waiting"), w ? `${w.read_time} · ${clockWithZone(w.read_time)}` : ""],
      [t("ui.read_time.applied"), a ? `${a.read_time} · ${clockWithZone(a.read_time)}` : t("ui.applied.none")],
      [t("ui.applied.at"), a ? clockWithZone(a.at) : ""],
    ]);
    const unknown = !w && !a && !(c.letters?.length > 0) ? t("ui.conversation.unknown") : "";
    setText(note, [unknown, c.note].filter(Boolean).join(" "));
    setHidden(note, note.textContent === "");
    line.show(c.command);
    setHidden(lettersCard, !c.letters);
    letters.show(c.letters ?? []);
  }
  async function find() {
    button.disabled = true;
    setText(status, t("ui.loading"));
    try {
      const { report, peer } = form.elements;
      found = await post("api/conversation", { report: report.value, peer: peer.value, worker: "" });
      setText(status, "");
      setHidden(result, false);
      draw();
    } catch (failure) {
      setHidden(result, true);
      setText(status, message(failure));
    }
    button.disabled = false;
  }
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    find();
  });
  // another view asks for a conversation: the accounts are not in the URL
  addEventListener("conversation", ({ detail }) => {
    form.elements.report.value = detail.report;
    form.elements.peer.value = detail.peer;
    location.hash = "conversation";
    find(); // the form can't be submitted before the view is shown
  });
  return { node, title: () => t("ui.conversation"), open: draw, show() {} };
}
