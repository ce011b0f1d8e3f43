// JSON-RPC 2.0 over one WebSocket: calls, and subscriptions that are made again with it.

import { socket } from "./token";

export class Refused extends Error {
  constructor(message: string, readonly code: number, readonly causes: string[], readonly hints: string[]) {
    super(message);
  }

  /** All that is told of it, in a line. */
  get whole(): string {
    return [this.message, ...this.causes].join(": ") + (this.hints[0] ? ` (hint: ${this.hints[0]})` : "");
  }
}

interface Waiting {
  answer(value: unknown): void;
  refuse(error: Error): void;
}

interface Said {
  id?: number;
  result?: unknown;
  error?: { code: number; message: string; data?: { causes?: string[]; hints?: string[] } };
  params?: { subscription: number | string; result: unknown };
}

/** Asks whether a token is right, by plain HTTP, which tells; and what is wrong else. */
export async function knock(token: string): Promise<"in" | "wrong" | "away"> {
  try {
    const answer = await fetch("/rpc", {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
      body: JSON.stringify({ jsonrpc: "2.0", id: 0, method: "server.info" }),
    });
    if (answer.ok) return "in";
    return answer.status === 401 || answer.status === 403 ? "wrong" : "away";
  } catch {
    return "away";
  }
}

export class Connection {
  private readonly waiting = new Map<number, Waiting>();
  private readonly heard = new Map<number | string, (result: unknown) => void>();
  private last = 0;
  private readonly socket: WebSocket;

  /** Connects; `ended` is called once, when it is over. */
  constructor(token: string, ready: () => void, ended: () => void) {
    this.socket = socket("/rpc", token);
    this.socket.onopen = ready;
    this.socket.onmessage = (event) => this.hear(JSON.parse(String(event.data)) as Said);
    this.socket.onclose = () => {
      for (const one of this.waiting.values()) one.refuse(new Error("the connection to the server was lost"));
      this.waiting.clear();
      ended();
    };
  }

  call<T>(method: string, params: object = {}): Promise<T> {
    const id = ++this.last;
    return new Promise<T>((answer, refuse) => {
      this.waiting.set(id, { answer: answer as (value: unknown) => void, refuse });
      this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  /** Subscribes; returns the subscription, by which it is ended. */
  async subscribe(method: string, params: object, hear: (result: unknown) => void): Promise<number | string> {
    const subscription = await this.call<number | string>(method, params);
    this.heard.set(subscription, hear);
    return subscription;
  }

  async unsubscribe(method: string, subscription: number | string): Promise<void> {
    this.heard.delete(subscription);
    await this.call(method, [subscription]);
  }

  private hear(said: Said): void {
    if (said.params) {
      this.heard.get(said.params.subscription)?.(said.params.result);
      return;
    }
    const waiting = said.id === undefined ? undefined : this.waiting.get(said.id);
    if (!waiting || said.id === undefined) return;
    this.waiting.delete(said.id);
    if (said.error) {
      const { code, message, data } = said.error;
      waiting.refuse(new Refused(message, code, data?.causes ?? [], data?.hints ?? []));
    } else {
      waiting.answer(said.result);
    }
  }
}
