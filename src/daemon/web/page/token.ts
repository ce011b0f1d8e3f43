// The token: it comes by the address (`#token=`), which it leaves at once, or is typed;
// it is kept for this tab only, and goes nowhere but to this server.

const KEPT = "ovsns-token";

/** The token, if there is one. */
export function token(): string | null {
  // Not by URLSearchParams, which takes a `+` for a space.
  const said = /^#token=(.+)$/.exec(location.hash)?.[1];
  if (said !== undefined) {
    history.replaceState(null, "", location.pathname);
    keep(plain(said));
  }
  return sessionStorage.getItem(KEPT);
}

/** Without what stands for letters in an address; what stands for none is no token. */
function plain(said: string): string {
  try {
    return decodeURIComponent(said);
  } catch {
    return said;
  }
}

/** Whether it can be a token at all; what cannot be is not even asked about. */
export function isToken(said: string): boolean {
  return /^[\w.~+-]+$/.test(said);
}

export function keep(said: string): void {
  sessionStorage.setItem(KEPT, said.trim());
}

export function forget(): void {
  sessionStorage.removeItem(KEPT);
}

/** Opens a WebSocket; a browser can say a token only among the protocols. */
export function socket(path: string, token: string): WebSocket {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url, ["ovsns", `ovsns.token.${token}`]);
}
