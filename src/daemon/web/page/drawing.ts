// The lab as a picture, by cytoscape. Nothing in it moves by itself. What the picture
// says, the lists say too: for who does not see it, it is one image with a name.

import cytoscape from "cytoscape";
import { type Edge, type Graph, type Rate, type Vertex, bits, name, pair, speed, stateWords } from "./lab";

/** Forces take the square of their number: of more things only those are placed so on
which others hang. */
const BY_FORCES_MAX = 250;

/** The room of a thing that hangs on one other. */
const LEAF = 42;

const SHAPES = { node: "round-rectangle", switch: "rectangle", nic: "diamond", remote: "hexagon" } as const;

/** How names are written. */
const LETTERS = 13;
const FONT = "system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
ruler.font = `bold ${LETTERS}px ${FONT}`;

export class Drawing {
  private readonly cy: cytoscape.Core;
  private lab = "";
  private rates = new Map<string, Rate>();

  /** Draws into a box; `choose` is called with the id of what is clicked. */
  constructor(private readonly box: HTMLElement, choose: (id: string) => void) {
    this.cy = cytoscape({ container: box, minZoom: 0.05, maxZoom: 4, style: style() });
    this.cy.on("tap", "node, edge", (event) => choose(event.target.id() as string));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.cy.style(style()));
  }

  /** Shows a lab. What is there already stays where it is. */
  show(graph: Graph): void {
    const fresh = graph.lab !== this.lab;
    this.lab = graph.lab;
    let added: cytoscape.CollectionReturnValue = this.cy.collection();
    this.cy.batch(() => {
      if (fresh) this.cy.elements().remove();
      const known = new Set([...graph.nodes, ...graph.edges].map((it) => it.id));
      this.cy.elements().filter((it) => !known.has(it.id())).remove();
      for (const vertex of graph.nodes) {
        const there = this.cy.getElementById(vertex.id);
        if (there.nonempty()) there.data(ofVertex(vertex));
        else added = added.union(this.cy.add({ group: "nodes", data: ofVertex(vertex) }));
      }
      const twins = counts(graph);
      for (const edge of graph.edges) {
        const there = this.cy.getElementById(edge.id);
        if (there.nonempty()) there.data(this.ofEdge(edge, twins));
        // What joins nothing that is known is not drawn; the lists have it.
        else if (edge.ends.every((end) => known.has(end.node))) {
          this.cy.add({ group: "edges", data: this.ofEdge(edge, twins) });
        }
      }
    });
    if (fresh) this.arrange();
    else this.place(added);
    this.box.setAttribute("aria-label", described(graph));
  }

  /** Writes beside each link how fast it is. */
  flow(rates: Rate[]): void {
    this.rates = new Map(rates.map((rate) => [pair(...rate.ends), rate]));
    this.cy.batch(() => {
      for (const it of this.cy.edges().toArray()) {
        const [edge, title, old] = [it.data("edge") as Edge, it.data("title") as string, it.data("label") as string];
        const label = this.label(edge, title);
        // What is written anew is drawn anew.
        if (label !== old) it.data("label", label);
      }
    });
  }

  choose(id: string | null): void {
    this.cy.elements(":selected").unselect();
    if (id !== null) this.cy.getElementById(id).select();
  }

  zoom(by: number): void {
    const middle = { x: this.cy.width() / 2, y: this.cy.height() / 2 };
    this.cy.zoom({ level: this.cy.zoom() * by, renderedPosition: middle });
  }

  whole(): void {
    this.cy.resize();
    this.cy.fit(undefined, 30);
    if (this.cy.zoom() > 1.5) {
      this.cy.zoom(1.5);
      this.cy.center();
    }
  }

  /** Places all anew, the same way each time. */
  arrange(): void {
    const nodes = this.cy.nodes();
    if (nodes.length <= BY_FORCES_MAX) {
      this.byForces(this.cy.elements(), () => 0);
    } else {
      const near = (node: cytoscape.NodeSingular) => node.neighborhood().nodes();
      const leaves = nodes.filter((it) => near(it).length === 1 && near(near(it)[0] as cytoscape.NodeSingular).length > 1);
      const inner = nodes.difference(leaves) as cytoscape.NodeCollection;
      const room = (node: cytoscape.NodeSingular) => LEAF * Math.sqrt(near(node).intersection(leaves).length);
      const frame = inner.union(inner.edgesWith(inner));
      if (inner.length <= BY_FORCES_MAX) this.byForces(frame, room);
      else frame.layout({ name: "grid", animate: false, spacingFactor: 1 + Math.max(...inner.map((it) => room(it))) / 40 }).run();
      inner.forEach((node) => {
        const at = node.position();
        near(node).intersection(leaves).nodes().forEach((leaf, number) => {
          leaf.position(around(at, LEAF * Math.sqrt(number + 2), number));
        });
      });
    }
    this.whole();
  }

  /** Places some by forces; `room` is what a thing has around it. */
  private byForces(some: cytoscape.CollectionReturnValue, room: (node: cytoscape.NodeSingular) => number): void {
    const degree = (it: cytoscape.NodeSingular) => it.degree(false);
    const rings = { name: "concentric", animate: false, minNodeSpacing: 24, concentric: degree, levelWidth: () => 2 };
    some.layout(rings as cytoscape.LayoutOptions).run();
    const idealEdgeLength = (edge: cytoscape.EdgeSingular) => 90 + room(edge.source()) + room(edge.target());
    const nodeRepulsion = (node: cytoscape.NodeSingular) => 400000 * (1 + room(node) / 10);
    const forces = {
      name: "cose", animate: false, randomize: false, idealEdgeLength, nodeRepulsion,
      nodeOverlap: 20, gravity: 0.4, numIter: 800, componentSpacing: 80,
    };
    some.layout(forces as cytoscape.LayoutOptions).run();
  }

  /** Puts new things beside what they hang on. */
  private place(added: cytoscape.CollectionReturnValue): void {
    added.nodes().forEach((node, number) => {
      const [beside] = node.neighborhood().nodes().difference(added).toArray() as cytoscape.NodeSingular[];
      const at = beside?.position() ?? { x: 0, y: 0 };
      node.position(around(at, 90, number));
    });
    if (added.nonempty()) this.whole();
  }

  private ofEdge(edge: Edge, twins: Map<string, number>): object {
    const [source, target] = edge.ends.map((end) => end.node);
    const beside = (twins.get(between(edge)) ?? 0) > 1;
    const title = beside ? which(edge) : "";
    return { id: edge.id, source, target, state: edge.state, edge, title, beside, label: this.label(edge, title) };
  }

  private label(edge: Edge, title: string): string {
    const said = [title, ...edge.notes].filter(Boolean);
    if (edge.state !== "up" && edge.state !== "wanted") said.unshift(stateWords(edge.state).toUpperCase());
    const rate = speed(edge, this.rates);
    if (rate && rate[0] + rate[1] >= 1) said.push(`${bits(rate[0])} / ${bits(rate[1])}bit/s`);
    return said.join("\n");
  }
}

/** The two things that an edge joins. */
function between(edge: Edge): string {
  return pair(edge.ends[0].node, edge.ends[1].node);
}

/** How many edges there are between the same two things. */
function counts(graph: Graph): Map<string, number> {
  const twins = new Map<string, number>();
  for (const edge of graph.edges) twins.set(between(edge), (twins.get(between(edge)) ?? 0) + 1);
  return twins;
}

/** What tells an edge from those beside it: its interfaces, or its number. */
function which(edge: Edge): string {
  const interfaces = edge.ends.map((end) => end.interface).filter((it) => it !== null);
  return interfaces.length > 0 ? [...new Set(interfaces)].join(" -- ") : `#${edge.number}`;
}

/** A place beside another: turned by the golden angle, no two lie in one direction. */
function around(at: cytoscape.Position, away: number, number: number): cytoscape.Position {
  const turn = number * Math.PI * (3 - Math.sqrt(5));
  return { x: at.x + away * Math.cos(turn), y: at.y + away * Math.sin(turn) };
}

function ofVertex(vertex: Vertex): object {
  const well = vertex.state === "up" || vertex.state === "wanted";
  const label = well ? vertex.name : `${vertex.name}\n${stateWords(vertex.state).toUpperCase()}`;
  const lines = label.split("\n");
  // The corners of diamonds and hexagons have no room for letters.
  const margin = vertex.kind === "node" || vertex.kind === "switch" ? 20 : 60;
  const width = Math.max(...lines.map((line) => ruler.measureText(line).width)) + margin;
  const height = lines.length * LETTERS * 1.3 + margin;
  return { id: vertex.id, label, width, height, shape: SHAPES[vertex.kind], kind: vertex.kind, state: vertex.state };
}

/** The picture in a sentence. */
function described(graph: Graph): string {
  const count = (kind: Vertex["kind"]) => graph.nodes.filter((it) => it.kind === kind).length;
  const odd = [
    ...graph.nodes.filter((it) => it.state !== "up").map((it) => `${it.name} ${stateWords(it.state)}`),
    ...graph.edges.filter((it) => it.state !== "up").map((it) => `${name(it)} ${stateWords(it.state)}`),
  ];
  const more = odd.length > 5 ? `, and ${odd.length - 5} more` : "";
  const told = odd.length === 0 ? "all up" : odd.slice(0, 5).join(", ") + more;
  return `Lab ${graph.lab}: ${count("node")} nodes, ${count("switch")} switches, ${graph.edges.length} links; ${told}. The lists below say the same.`;
}

function style(): cytoscape.StylesheetJson {
  const colours = getComputedStyle(document.documentElement);
  const colour = (name: string) => colours.getPropertyValue(`--${name}`).trim();
  const [ground, raised, text, line] = ["ground", "raised", "text", "line"].map(colour);
  const [accent, bad, odd, quiet] = ["accent", "bad", "odd", "quiet"].map(colour);
  const states = [
    ["down", { "line-style": "dashed", "line-color": bad, width: 3, "border-style": "dashed", "border-color": bad }],
    ["held_down", { "line-style": "dashed", "line-color": quiet }],
    ["missing", { "line-style": "dotted", "line-color": bad, width: 3, "border-style": "dotted", "border-color": bad, "background-opacity": 0.3 }],
    ["extra", { "line-color": odd, "border-style": "double", "border-width": 5, "border-color": odd, "line-dash-pattern": [12, 3], "line-style": "dashed" }],
  ] as const;
  const sheet = [
    {
      selector: "node",
      style: {
        label: "data(label)", shape: "data(shape)", color: text, "background-color": raised,
        "border-width": 2, "border-color": line, "font-size": LETTERS, "font-family": FONT,
        "text-valign": "center", "text-wrap": "wrap", "font-weight": "bold", width: "data(width)", height: "data(height)",
        "min-zoomed-font-size": 6,
      },
    },
    { selector: 'node[kind = "switch"]', style: { "border-color": accent, "border-width": 3 } },
    {
      selector: "edge",
      style: {
        label: "data(label)", width: 2, "line-color": accent, "curve-style": "bezier", color: text,
        "font-size": 11, "text-wrap": "wrap", "text-background-color": ground, "text-background-opacity": 0.85,
        "text-background-padding": "2px", "min-zoomed-font-size": 7,
      },
    },
    // Those between the same two things lie so far apart that each has its words along it.
    { selector: "edge[?beside]", style: { "control-point-step-size": 75, "text-rotation": "autorotate" } },
    ...states.map(([state, style]) => ({ selector: `[state = "${state}"]`, style })),
    { selector: ":selected", style: { "underlay-color": accent, "underlay-opacity": 0.35, "underlay-padding": 7 } },
  ];
  return sheet as unknown as cytoscape.StylesheetJson;
}
