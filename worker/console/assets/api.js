// Requests to the server of this page. All paths are relative, so that any sub-path works.
import { t } from "./format.js";

// request returns the JSON of a response. An error has the server's own words, in English.
async function request(path, options = {}) {
  const response = await fetch(path, {
    ...options, redirect: "error", signal: AbortSignal.timeout(options.timeout ?? 5000),
    headers: { Accept: "application/json", ...options.headers },
  });
  if (response.status === 401) location.reload(); // the login has expired: the page is the form now
  const body = await response.text();
  if (response.ok) return body.trim() === "" ? null : parse(body);
  const e = new Error(parse(body)?.error ?? (body.trim().slice(0, 300) || t("ui.http", { status: response.status })));
  e.status = response.status;
  throw e;
}

// parse returns null for what is not JSON: the old commands respond with text.
function parse(body) {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

export const get = (path) => request(path);

// post sends JSON, or nothing. It may wait longer: the server may read a whole topic first.
export const post = (path, body) => request(path, {
  method: "POST", timeout: 60000,
  ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } }),
});

// message returns what the page shows for an error.
export function message(e) {
  if (e.name === "TimeoutError") return t("ui.error.timeout");
  return e.status ? e.message : t("ui.error.network", { message: e.message });
}
