// A shell in a node, on a WebSocket of its own: bytes both ways, and the size of the
// screen as text.

import { FitAddon } from "@xterm/addon-fit";
import { Terminal } from "@xterm/xterm";
import { button, element, make } from "./page";
import { socket } from "./token";

interface Open {
  lab: string;
  node: string;
  /** Says that its node has gone. */
  outlive(): void;
}

const all = new Set<Open>();

/** Says of each whose node is not there any more that it is not: a shell lives on in
what is left of it. */
export function follow(isThere: (lab: string, node: string) => boolean): void {
  for (const one of all) if (!isThere(one.lab, one.node)) one.outlive();
}

/** Opens one, with the focus in it. */
export function open(token: string, lab: string, node: string): void {
  const box = make("section", "", { class: "terminal-box" });
  const title = `Terminal in ${lab}/${node}`;
  box.setAttribute("aria-label", title);
  box.dataset["node"] = node;
  const head = make("div", "", { class: "head" });
  const hint = make("span", "Shift+F6 leaves it");
  hint.setAttribute("role", "status");
  const outlive = () => {
    all.delete(one);
    hint.className = "error";
    hint.textContent = `${lab}/${node} is gone; close this terminal`;
  };
  const one: Open = { lab, node, outlive };
  all.add(one);
  const screen = make("div", "", { class: "screen" });
  const terminal = new Terminal({ screenReaderMode: true, cursorBlink: false, fontSize: 14, scrollback: 5000 });
  const fit = new FitAddon();
  const before = document.activeElement as HTMLElement | null;
  const stop = button("Close", `Close ${title}`, () => {
    all.delete(one);
    line.close();
    resized.disconnect();
    terminal.dispose();
    box.remove();
    before?.focus();
  });
  head.append(make("h2", title), hint, stop);
  box.append(head, screen);
  element("terminals").append(box);
  terminal.loadAddon(fit);
  terminal.open(screen);
  fit.fit();

  const line = socket("/terminal", token);
  line.binaryType = "arraybuffer";
  // What is typed before it is there is not lost.
  const early: (string | Uint8Array<ArrayBuffer>)[] = [];
  line.onopen = () => {
    line.send(JSON.stringify({ open: { lab, node, size: [terminal.cols, terminal.rows] } }));
    for (const data of early) line.send(data);
  };
  const say = (data: string | Uint8Array<ArrayBuffer>) => {
    if (line.readyState === WebSocket.CONNECTING) early.push(data);
    else if (line.readyState === WebSocket.OPEN) line.send(data);
  };
  const keys = new TextEncoder();
  terminal.onData((text) => say(keys.encode(text)));
  terminal.onBinary((text) => say(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  terminal.onResize(({ cols, rows }) => say(JSON.stringify({ size: [cols, rows] })));
  terminal.attachCustomKeyEventHandler((event) => {
    if (event.key !== "F6" || !event.shiftKey) return true;
    if (event.type === "keydown") {
      event.preventDefault();
      stop.focus();
    }
    return false;
  });
  const resized = new ResizeObserver(() => fit.fit());
  resized.observe(screen);
  let told = false;
  line.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
    if (typeof event.data !== "string") {
      terminal.write(new Uint8Array(event.data));
      return;
    }
    told = true;
    terminal.write(`\r\n[${(JSON.parse(event.data) as { ended: string }).ended}]\r\n`);
  };
  line.onclose = () => {
    if (all.delete(one)) hint.textContent = "ended";
    resized.disconnect();
    if (!told) terminal.write("\r\n[the connection was lost]\r\n");
  };
  terminal.focus();
}
