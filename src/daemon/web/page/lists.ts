// The lab as tables with buttons: all that the drawing says, for keyboards and screen
// readers, and for who looks for a name. Rows are changed in place, so that the focus
// stays where it is.

import { type Edge, type Graph, type Rate, type Vertex, bits, isOurs, name, pair, speed, stateWords } from "./lab";
import { button, element, make, write } from "./page";

/** What buttons of the lists do. */
export interface Deeds {
  choose(id: string): void;
  hold(edge: Edge, down: boolean): void;
  open(node: string): void;
}

const KINDS = { node: "node", switch: "switch", nic: "NIC", remote: "tunnel" } as const;

/** What a link's button would do. */
export function deed(edge: Edge): { text: string; down: boolean } {
  return edge.state === "held_down" ? { text: "Bring up", down: false } : { text: "Take down", down: true };
}

type Cell = HTMLTableCellElement;

function cell(row: HTMLTableRowElement, at: number): Cell {
  const found = row.cells[at];
  if (!found) throw new Error(`the row has no cell ${at}`);
  return found;
}

class List<T extends { id: string; state: string }> {
  private readonly rows = new Map<string, { row: HTMLTableRowElement; thing: T }>();

  constructor(private readonly body: HTMLElement, private readonly cells: number, private readonly choose: (id: string) => void) {}

  show(things: T[], fill: (row: HTMLTableRowElement, thing: T, title: HTMLButtonElement) => void): void {
    const left = new Set(this.rows.keys());
    let before: HTMLTableRowElement | null = null;
    for (const thing of things) {
      left.delete(thing.id);
      const known = this.rows.get(thing.id);
      const row = known?.row ?? this.add(thing);
      if (known) known.thing = thing;
      row.dataset["state"] = thing.state;
      fill(row, thing, row.querySelector("th button") as HTMLButtonElement);
      const next: Element | null = before ? before.nextElementSibling : this.body.firstElementChild;
      if (next !== row) this.body.insertBefore(row, next);
      before = row;
    }
    for (const id of left) {
      const row = this.rows.get(id)?.row;
      // Who was on it goes on from the lists, and not from the top of the page.
      if (row?.contains(document.activeElement)) element("lists").focus();
      row?.remove();
      this.rows.delete(id);
    }
  }

  /** The thing of a row as it is by now. */
  thing(id: string): T | undefined {
    return this.rows.get(id)?.thing;
  }

  mark(id: string | null): void {
    for (const [of, { row }] of this.rows) row.querySelector("th button")?.setAttribute("aria-pressed", String(of === id));
  }

  each(see: (row: HTMLTableRowElement, thing: T) => void): void {
    for (const { row, thing } of this.rows.values()) see(row, thing);
  }

  private add(thing: T): HTMLTableRowElement {
    const row = document.createElement("tr");
    row.dataset["id"] = thing.id;
    const head = make("th");
    head.scope = "row";
    const title = button("", "", () => this.choose(thing.id));
    title.setAttribute("aria-pressed", "false");
    head.append(title);
    row.append(head);
    for (let cell = 1; cell < this.cells; cell++) row.append(make("td"));
    this.rows.set(thing.id, { row, thing });
    return row;
  }
}

export class Lists {
  private readonly things: List<Vertex>;
  private readonly links: List<Edge>;

  constructor(private readonly deeds: Deeds) {
    this.things = new List(element("things"), 5, deeds.choose);
    this.links = new List(element("links"), 6, deeds.choose);
  }

  show(graph: Graph): void {
    this.things.show(graph.nodes, (row, vertex, title) => {
      const [kind, state, more, todo] = [1, 2, 3, 4].map((at) => cell(row, at)) as [Cell, Cell, Cell, Cell];
      write(title, vertex.name);
      write(kind, KINDS[vertex.kind]);
      state.className = "state";
      write(state, stateWords(vertex.state));
      write(more, vertex.details.join(", "));
      const can = vertex.kind === "node" && vertex.state !== "missing";
      if (can && !todo.firstElementChild) {
        todo.append(button("Terminal", `Terminal in ${vertex.name}`, () => this.deeds.open(vertex.id)));
      } else if (!can) {
        todo.replaceChildren();
      }
    });
    this.links.show(graph.edges, (row, edge, title) => {
      const [state, more, todo] = [1, 4, 5].map((at) => cell(row, at)) as [Cell, Cell, Cell];
      write(title, name(edge));
      state.className = "state";
      write(state, stateWords(edge.state));
      write(more, edge.notes.join(", "));
      if (!isOurs(edge)) {
        todo.replaceChildren();
        return;
      }
      const hold = todo.firstElementChild ?? todo.appendChild(button("", "", () => {
        const now = this.links.thing(edge.id);
        if (now) this.deeds.hold(now, deed(now).down);
      }));
      const { text } = deed(edge);
      write(hold, text);
      hold.setAttribute("aria-label", `${text}: ${name(edge)}`);
    });
  }

  flow(rates: Rate[]): void {
    const known = new Map(rates.map((rate) => [pair(...rate.ends), rate]));
    this.links.each((row, edge) => {
      const two = speed(edge, known)?.map(bits) ?? ["", ""];
      for (const [at, text] of two.entries()) {
        const there = cell(row, 2 + at);
        there.className = "number";
        write(there, text);
      }
    });
  }

  mark(id: string | null): void {
    this.things.mark(id);
    this.links.mark(id);
  }
}
