// The page of `ovsns serve --web`: comes in by the token, keeps a connection, and shows
// one lab as it is.

import { Drawing } from "./drawing";
import { type Edge, type Graph, type Rates, type Row, type Status, name, stateWords } from "./lab";
import { type Deeds, Lists } from "./lists";
import { choices, element, write } from "./page";
import { ping } from "./ping";
import { Connection, Refused, knock } from "./rpc";
import * as terminal from "./terminal";
import * as thing from "./thing";
import { forget, keep, token } from "./token";

/** How long after a change it is asked what has come of it: changes come in flocks. */
const SETTLE_MS = 120;

/** How long until a lost server is tried again, at first and at most. */
const AGAIN_MS = [500, 10_000] as const;

/** How often it is told how fast links are, in seconds. */
const RATES_S = 2;

class Page {
  private connection: Connection | null = null;
  private again: number = AGAIN_MS[0];
  private graph: Graph | null = null;
  private status: Status | null = null;
  private chosen: string | null = null;
  private wanted = false;
  private asking = false;
  private took = 0;
  private rates: { lab: string; subscription: number | string } | null = null;
  private readonly deeds: Deeds & { ping(from: string): void } = {
    choose: (id) => this.choose(id),
    hold: (edge, down) => void this.hold(edge, down),
    open: (node) => this.open(node),
    ping: (from) => {
      element<HTMLSelectElement>("ping-from").value = from;
      element("ping-to").focus();
    },
  };
  private readonly lists = new Lists(this.deeds);
  private readonly drawing = new Drawing(element("drawing"), this.deeds.choose);
  private readonly choice = element<HTMLSelectElement>("lab");

  start(): void {
    element("door").addEventListener("submit", (event) => {
      event.preventDefault();
      const field = element<HTMLInputElement>("token");
      keep(field.value);
      field.value = "";
      void this.enter();
    });
    element("ping").addEventListener("submit", (event) => {
      event.preventDefault();
      void this.ping();
    });
    this.choice.addEventListener("change", () => {
      this.chosen = null;
      this.ask();
    });
    element("closer").addEventListener("click", () => this.drawing.zoom(1.25));
    element("farther").addEventListener("click", () => this.drawing.zoom(0.8));
    element("whole").addEventListener("click", () => this.drawing.whole());
    element("arrange").addEventListener("click", () => this.drawing.arrange());
    void this.enter();
  }

  /** Comes in, or asks who is there. */
  private async enter(): Promise<void> {
    const known = token();
    const found = known === null ? "wrong" : await knock(known);
    if (found === "in") {
      element("door").hidden = true;
      this.connect(known ?? "");
    } else if (found === "away") {
      this.retry("the server does not answer");
    } else {
      forget();
      element("hall").hidden = true;
      element("door").hidden = false;
      write(element("link-state"), "not connected");
      write(element("door-error"), known === null ? "" : "That is not this server's token.");
      element("token").focus();
    }
  }

  private connect(token: string): void {
    const connection = new Connection(
      token,
      () => {
        this.connection = connection;
        this.again = AGAIN_MS[0];
        element("hall").hidden = false;
        write(element("link-state"), "connected");
        void this.follow(connection);
        this.ask();
      },
      () => {
        this.connection = null;
        this.rates = null;
        this.retry("the connection to the server was lost");
      },
    );
  }

  private retry(why: string): void {
    write(element("link-state"), `${why}; trying again`);
    setTimeout(() => void this.enter(), this.again);
    this.again = Math.min(this.again * 2, AGAIN_MS[1]);
  }

  /** Hears of every change of any lab. */
  private async follow(connection: Connection): Promise<void> {
    try {
      await connection.subscribe("fabric.events", {}, () => this.ask());
    } catch (error) {
      this.tell(`changes are not heard of: ${words(error)}`);
    }
  }

  /** Has all asked again, soon and once. */
  private ask(): void {
    if (this.wanted) return;
    this.wanted = true;
    // A big lab is not looked at all the time, whatever happens in it.
    setTimeout(() => void this.look(), Math.max(SETTLE_MS, this.took));
  }

  private async look(): Promise<void> {
    const { connection } = this;
    if (this.asking) return;
    this.wanted = false;
    if (!connection) return;
    this.asking = true;
    const begun = performance.now();
    try {
      const labs = await connection.call<Row[]>("lab.list");
      const empty = labs.length === 0;
      element("lab-choice").hidden = empty;
      choices(this.choice, labs.map((row) => row.lab));
      const lab = this.choice.value;
      if (empty) {
        this.show({ lab: "", nodes: [], edges: [], notes: [] }, NOTHING);
        write(element("lab-state"), "There is no lab; ovsns up makes one.");
      } else {
        const [graph, status] = await Promise.all([
          connection.call<Graph>("lab.graph", { lab }),
          connection.call<Status>("lab.status", { lab }),
        ]);
        this.show(graph, status);
      }
      await this.watch(connection, empty ? null : lab);
    } catch (error) {
      // It may have gone since it was listed; then the next look says so.
      if (error instanceof Refused) this.tell(error.whole);
    } finally {
      this.asking = false;
      this.took = performance.now() - begun;
      if (this.wanted) {
        this.wanted = false;
        this.ask();
      }
    }
  }

  private show(graph: Graph, status: Status): void {
    const before = this.graph;
    this.graph = graph;
    this.status = status;
    const state = element("lab-state");
    write(state, status.state);
    state.classList.toggle("bad", status.state !== "up");
    const trouble = [
      ...(status.cut_off ? [`\`${status.cut_off}\` was cut off; run it again`] : []),
      ...status.drift,
      ...status.troubles,
    ];
    element("trouble").hidden = trouble.length === 0;
    const list = element("trouble-list");
    if (list.innerText !== trouble.join("\n")) {
      list.replaceChildren(...trouble.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
    }
    this.lists.show(graph);
    this.drawing.show(graph);
    const names = graph.nodes.filter((it) => it.kind === "node").map((it) => it.id);
    choices(element<HTMLSelectElement>("ping-from"), names);
    choices(element<HTMLSelectElement>("ping-to"), names, 1);
    element<HTMLButtonElement>("ping-go").disabled = names.length < 2;
    document.title = graph.lab === "" ? "ovsns" : `${graph.lab}: ${status.state} - ovsns`;
    document.body.dataset["lab"] = graph.lab;
    this.showThing();
    if (before?.lab === graph.lab) this.tellChanges(before, graph);
  }

  private showThing(): void {
    if (!this.graph || !this.status) return;
    if (!thing.show(this.chosen, this.graph, this.status, this.deeds)) this.chosen = null;
    this.lists.mark(this.chosen);
  }

  /** Says aloud what is other than it was. */
  private tellChanges(before: Graph, after: Graph): void {
    const states = (graph: Graph) =>
      new Map<string, string>([
        ...graph.nodes.map((it) => [it.name, stateWords(it.state)] as const),
        ...graph.edges.map((it) => [name(it), stateWords(it.state)] as const),
      ]);
    const [was, is] = [states(before), states(after)];
    const news = [...is].filter(([what, state]) => was.get(what) !== state).map(([what, state]) => `${what}: ${state}`);
    news.push(...[...was.keys()].filter((what) => !is.has(what)).map((what) => `${what}: gone`));
    if (news.length > 0) this.tell(news.slice(0, 4).join("; ") + (news.length > 4 ? `; and ${news.length - 4} more` : ""));
  }

  private tell(text: string): void {
    write(element("news"), text);
  }

  /** Hears how fast the links of the lab are that is shown. */
  private async watch(connection: Connection, lab: string | null): Promise<void> {
    if ((this.rates?.lab ?? null) === lab) return;
    const old = this.rates;
    this.rates = null;
    if (old) await connection.unsubscribe("fabric.stats.stop", old.subscription);
    if (lab === null) return;
    const subscription = await connection.subscribe("fabric.stats", { lab, interval: RATES_S }, (told) => {
      const { lab: of, links } = told as Rates;
      if (of !== this.graph?.lab) return;
      this.lists.flow(links);
      this.drawing.flow(links);
    });
    this.rates = { lab, subscription };
  }

  private choose(id: string): void {
    this.chosen = id;
    this.drawing.choose(id);
    this.showThing();
  }

  private open(node: string): void {
    const known = token();
    if (this.graph && known !== null) terminal.open(known, this.graph.lab, node);
  }

  private async hold(edge: Edge, down: boolean): Promise<void> {
    if (!this.connection || !this.graph) return;
    const [a, b] = edge.ends.map((end) => (end.interface === null ? end.node : `${end.node}:${end.interface}`));
    try {
      this.tell(`${down ? "taking down" : "bringing up"} ${name(edge)}`);
      await this.connection.call(down ? "link.down" : "link.up", { a, b, lab: this.graph.lab });
    } catch (error) {
      this.tell(words(error));
    }
    this.ask();
  }

  private async ping(): Promise<void> {
    if (!this.connection || !this.status) return;
    const [from, to] = [element<HTMLSelectElement>("ping-from").value, element<HTMLSelectElement>("ping-to").value];
    const [go, said] = [element<HTMLButtonElement>("ping-go"), element("ping-said")];
    go.setAttribute("aria-disabled", "true");
    write(said, `${from} asks ${to}`);
    write(said, from === to ? "choose two nodes" : await ping(this.connection, this.status, from, to));
    go.removeAttribute("aria-disabled");
  }
}

const NOTHING: Status = {
  lab: "", state: "", cut_off: null, drift: [], troubles: [], nodes: [], switches: [], links: [], uplinks: [],
};

function words(error: unknown): string {
  return error instanceof Refused ? error.whole : error instanceof Error ? error.message : String(error);
}

new Page().start();
