// What several views show in the same way: codes in words, and masked accounts.
import { el } from "./dom.js";
import { t, text } from "./format.js";

// capital begins a sentence; a command stays as it is typed.
export const capital = (s) => (s.startsWith("markread ") ? s : s.charAt(0).toUpperCase() + s.slice(1));

// ofCode returns a text of a code; an ErrorCode that the catalogue lacks has those of "other".
const ofCode = (code, what) => text(`code.${code}.${what}`) || (/^\d+$/.test(code) ? text(`code.other.${what}`) : "");

export const codeText = (code) => [code, ofCode(code, "meaning")].filter(Boolean).join(": ");

// said returns what the server said of a failure, without its remedy, which is shown on its own; "" if
// the code's own text says it.
export function said(code, message) {
  const [words] = (message ?? "").split(" What to do: ");
  return codeText(code ?? "").endsWith(words) ? "" : words;
}

export const codeFix = (code) => capital(ofCode(code, "fix"));

// A code without texts of its own, such as that of an invalid event, has those of its class.
export const meaning = (l) => capital(ofCode(l.code, "meaning") || text(`class.${l.class}.meaning`));
export const fix = (l) => codeFix(l.code) || capital(text(`class.${l.class}.do`));

// Accounts are masked until the reader reveals them: a screen is easily shared.
let revealed = false;
export const isRevealed = () => revealed;
export const account = (a) => (a === null || a === undefined || a === "" ? "–"
  : revealed ? a : `${[...a].slice(0, 2).join("")}…`);

// reveal is the button that shows accounts.
export function reveal(redraw) {
  const node = el("button", { type: "button", class: "small", "aria-pressed": String(revealed), text: t("ui.reveal"),
    onclick: () => {
      revealed = !revealed;
      redraw();
    } });
  return { node, show: () => node.setAttribute("aria-pressed", String(revealed)) };
}
