// Small helpers for what is on the page.

/** The element of that id, which index.html has. */
export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found as T;
}

/** Makes an element with a text, never from markup. */
export function make<K extends keyof HTMLElementTagNameMap>(tag: K, text = "", more: { class?: string } = {}): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  made.textContent = text;
  if (more.class) made.className = more.class;
  return made;
}

export function button(text: string, label: string, press: () => void): HTMLButtonElement {
  const made = make("button", text);
  made.type = "button";
  if (label !== text) made.setAttribute("aria-label", label);
  made.addEventListener("click", press);
  return made;
}

/** Changes a text only where it differs: what is read aloud is not read again. */
export function write(where: Element, text: string): void {
  if (where.textContent !== text) where.textContent = text;
}

/** Fills a choice, and keeps what was chosen as long as it is there. */
export function choices(select: HTMLSelectElement, names: string[], fallback = 0): void {
  const there = [...select.options].map((option) => option.value);
  if (there.length === names.length && there.every((name, at) => name === names[at])) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.value = names.includes(chosen) ? chosen : (names[fallback] ?? names[0] ?? "");
}
