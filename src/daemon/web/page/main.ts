// The page of `ovsns serve --web`: comes in by the token, keeps a connection, and shows
// one lab as it is.

import { Drawing } from "./drawing";
import { type Edge, type Graph, type Rate, type Rates, type Row, type Status, ends, name, pair, stateWords } from "./lab";
import { type Deeds, Lists } from "./lists";
import { choices, element, make, write } from "./page";
import { ping } from "./ping";
import { Connection, Refused, knock } from "./rpc";
import * as terminal from "./terminal";
import * as thing from "./thing";
import { forget, isToken, keep, token } from "./token";

/** How long after a change it is asked what has come of it: changes come in flocks. */
const SETTLE_MS = 120;

/** How long until a lost server is tried again, at first and at most. */
const AGAIN_MS = [500, 10_000] as const;

/** How often it is told how fast links are, in seconds. */
const RATES_S = 2;

/** After how long without that it is asked for again. */
const SILENT_MS = 6_000;

/** How many lines of drift are shown. */
const DRIFT_MAX = 12;

const CHOOSE = "Choose a thing in the drawing or in the lists.";

/** Why nothing is done. */
const AWAY = "the server is not there; try again when it is";

class Page {
  private connection: Connection | null = null;
  private again: number = AGAIN_MS[0];
  private graph: Graph | null = null;
  private status: Status | null = null;
  private chosen: string | null = null;
  private wanted = false;
  private asking = false;
  private took = 0;
  private rates: { lab: string; subscription: number | string; heard: number } | null = null;
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
      if (!this.connection) this.tell(`Lab ${this.choice.value} is not shown yet: ${AWAY}`);
      this.ask();
    });
    element("closer").addEventListener("click", () => this.drawing.zoom(1.25));
    element("farther").addEventListener("click", () => this.drawing.zoom(0.8));
    element("whole").addEventListener("click", () => this.drawing.whole());
    element("arrange").addEventListener("click", () => this.drawing.arrange());
    setInterval(() => this.listen(), RATES_S * 1000);
    void this.enter();
  }

  /** Comes in, or asks who is there. */
  private async enter(): Promise<void> {
    const known = token();
    const found = known === null || !isToken(known) ? "wrong" : await knock(known);
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
        if (this.status) this.tell("The server is there again.");
        void this.follow(connection);
        this.ask();
      },
      () => {
        if (this.connection === connection) this.lost();
        this.connection = null;
        this.retry("the connection to the server was lost");
      },
    );
  }

  /** What is shown from here on is of the past. */
  private lost(): void {
    this.rates = null;
    this.flow([]);
    this.tell(`What is shown is of ${new Date().toLocaleTimeString()}: the server has gone.`);
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
      terminal.follow((of) => labs.some((row) => row.lab === of));
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
      if (error instanceof Refused) this.refused(error.whole);
    } finally {
      this.asking = false;
      this.took = performance.now() - begun;
      if (this.wanted) {
        this.wanted = false;
        this.ask();
      }
    }
  }

  /** A lab of which nothing is known; what is shown of another is not it. */
  private refused(why: string): void {
    const lab = this.choice.value;
    if (this.graph?.lab !== lab) this.show({ lab, nodes: [], edges: [], notes: [] }, { ...NOTHING, lab, state: why });
    this.tell(why);
  }

  private show(graph: Graph, status: Status): void {
    const before = this.graph;
    this.graph = graph;
    this.status = status;
    if (before && before.lab !== graph.lab) {
      // A thing of the same name in another lab is another thing.
      this.forget(before.lab);
      this.flow([]);
      const there = [...this.choice.options].some((option) => option.value === before.lab);
      const instead = graph.lab === "" ? "" : ` This is lab ${graph.lab}.`;
      if (before.lab !== "" && !there) this.tell(`Lab ${before.lab} is gone.${instead}`);
      else if (graph.lab !== "") this.tell(`This is lab ${graph.lab}.`);
    }
    const state = element("lab-state");
    write(state, status.state);
    state.classList.toggle("bad", status.state !== "up");
    const trouble = troubles(status);
    element("trouble-hint").hidden = status.drift.length === 0;
    element("trouble").hidden = trouble.length === 0;
    const list = element("trouble-list");
    if (list.innerText !== trouble.join("\n")) {
      list.replaceChildren(...trouble.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
    }
    element("notes").replaceChildren(...graph.notes.map((line) => make("li", line)));
    this.lists.show(graph);
    this.drawing.show(graph);
    const there = graph.nodes.filter((it) => it.kind === "node" && it.state !== "missing").map((it) => it.id);
    terminal.follow((lab, node) => lab !== graph.lab || there.includes(node));
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
    if (!thing.show(this.chosen, this.graph, this.status, this.deeds)) {
      this.forget(this.graph.lab);
    }
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
      if (this.rates) this.rates.heard = performance.now();
      if (of === this.graph?.lab) this.flow(links);
    });
    this.rates = { lab, subscription, heard: performance.now() };
  }

  /** Begins to hear of rates anew when there are no more of them: of a lab that went
  and came again the server says nothing to who had asked before. */
  private listen(): void {
    if (!this.rates || performance.now() - this.rates.heard < SILENT_MS) return;
    this.flow([]);
    const { connection, rates: { subscription } } = this;
    this.rates = null;
    // Of one that has ended the server knows nothing any more.
    connection?.unsubscribe("fabric.stats.stop", subscription).catch(() => {});
    this.ask();
  }

  private flow(rates: Rate[]): void {
    this.lists.flow(rates);
    this.drawing.flow(rates);
  }

  /** What was chosen is not there any more, which is said where it was told of. */
  private forget(lab: string): void {
    if (this.chosen !== null) write(element("thing-hint"), `${this.chosen} of lab ${lab} is gone. ${CHOOSE}`);
    this.chosen = null;
    this.drawing.choose(null);
  }

  private choose(id: string): void {
    write(element("thing-hint"), CHOOSE);
    this.chosen = id;
    this.drawing.choose(id);
    this.showThing();
  }

  private open(node: string): void {
    const known = token();
    if (this.graph && known !== null) terminal.open(known, this.graph.lab, node);
  }

  private async hold(edge: Edge, down: boolean): Promise<void> {
    if (!this.graph) return;
    if (!this.connection) return this.tell(`${name(edge)} stays as it is: ${AWAY}`);
    const [a, b] = ends(edge);
    try {
      this.tell(`${down ? "taking down" : "bringing up"} ${name(edge)}`);
      await this.connection.call(down ? "link.down" : "link.up", { a, b, lab: this.graph.lab });
    } catch (error) {
      this.tell(words(error));
    }
    this.ask();
  }

  private async ping(): Promise<void> {
    if (!this.status) return;
    if (!this.connection) return write(element("ping-said"), `not tried: ${AWAY}`);
    const [from, to] = [element<HTMLSelectElement>("ping-from").value, element<HTMLSelectElement>("ping-to").value];
    const [go, said] = [element<HTMLButtonElement>("ping-go"), element("ping-said")];
    go.setAttribute("aria-disabled", "true");
    write(said, `${from} asks ${to}`);
    write(said, from === to ? "choose two nodes" : await ping(this.connection, this.status, from, to));
    go.removeAttribute("aria-disabled");
  }
}

/** What is wrong with a lab, a line each, the rare before what may be long. */
function troubles(status: Status): string[] {
  const { drift, switches } = status;
  const cables = switches.flatMap((it) => it.ports.flatMap((port) => (port.cables ?? []).map((cable) => ({ it, port, cable }))));
  const held = new Set(status.links.filter((it) => it.held_down).map((it) => pair(...it.ends)));
  const unused = cables.filter(({ it, port, cable }) => cable.enabled === false && !held.has(pair(it.name, port.across ?? "")));
  return [
    ...(status.cut_off ? [`\`${status.cut_off}\` was cut off; run it again`] : []),
    ...status.troubles,
    ...status.uplinks.filter((it) => it.unconfirmed).map((it) => `NIC ${it.nic} is given back unless somebody says: ovsns confirm ${it.unconfirmed}`),
    ...switches.flatMap((it) =>
      (it.openflow?.controllers ?? []).filter((one) => !one.connected).map((one) => `controller ${one.target} of switch ${it.name} is not connected`),
    ),
    ...unused.map(({ it, port, cable }) => `cable ${cable.device} of the bond to ${port.across ?? "others"} on switch ${it.name} is out of use`),
    ...drift.slice(0, DRIFT_MAX),
    ...(drift.length > DRIFT_MAX ? [`and ${drift.length - DRIFT_MAX} more, which \`ovsns status\` lists`] : []),
  ];
}

const NOTHING: Status = {
  lab: "", state: "", cut_off: null, drift: [], troubles: [], nodes: [], switches: [], links: [], uplinks: [],
};

function words(error: unknown): string {
  return error instanceof Refused ? error.whole : error instanceof Error ? error.message : String(error);
}

new Page().start();
